"""sb3-contrib: RecurrentPPO, reinforcement learning with a recurrent policy and a recurrent critic."""

import torch
from sb3_contrib import RecurrentPPO

from tests.ecosystem.three_ways import Results, gradients, hold


def test_evaluating_and_its_gradients():
    agent = RecurrentPPO("MlpLstmPolicy", "CartPole-v1", seed=0, device="cpu")
    policy, lstm = agent.policy, agent.policy.lstm_actor
    sequences, length = 8, 32
    observations = torch.randn(sequences * length, 4)
    actions = torch.randint(2, (sequences * length,))
    starts = torch.zeros(sequences * length)
    starts[::length] = 1  # of episodes, where the states are reset: the policy then goes step by step

    def run() -> Results:
        zeros = torch.zeros(lstm.num_layers, sequences, lstm.hidden_size)
        states = type(agent._last_lstm_states)((zeros, zeros), (zeros, zeros))
        values, log_prob, entropy = policy.evaluate_actions(observations, actions, states, starts)
        loss = values.square().mean() + log_prob.mean() + entropy.mean()
        found = {"values": values.detach(), "log_prob": log_prob.detach(), "entropy": entropy.detach()}
        return {**found, **gradients(loss, policy)}

    hold("sb3-contrib", "a minibatch of 8 x 32, forward and backward", policy, run)


def test_acting():
    agent = RecurrentPPO("MlpLstmPolicy", "CartPole-v1", seed=0, device="cpu")
    observations = torch.randn(64, 4).numpy()

    def run() -> Results:
        states, actions = None, []
        for observation in observations:
            action, states = agent.predict(observation, states, deterministic=True)
            actions.append(int(action))
        h, c = states
        return {"actions": torch.tensor(actions), "h": torch.from_numpy(h), "c": torch.from_numpy(c)}

    hold("sb3-contrib", "64 steps of acting", agent.policy, run)
