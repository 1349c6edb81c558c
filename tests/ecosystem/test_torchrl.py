"""torchrl: LSTMModule and GRUModule, recurrent policies. Where episodes begin midway it asks whether its layer is an nn.LSTM."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor, nn
from torchrl.envs import Compose, GymEnv, InitTracker, TransformedEnv
from torchrl.modules import GRUModule, LSTMModule, set_recurrent_mode

import fastlstm
from tests.ecosystem.three_ways import Results, gradients, hold
from tests.tolerances import TRAINED_LOSS_FLOAT32

H, LAYERS = 64, 2
STEPS, ROLLOUTS = 64, 8


def choose(logits: Tensor) -> Tensor:
    return nn.functional.one_hot(logits.argmax(-1), 2)


MODULES = {"LSTM": LSTMModule, "GRU": GRUModule}
STATES = {"LSTM": ["recurrent_state_h", "recurrent_state_c"], "GRU": ["recurrent_state"]}


def policy_and_env(layer: nn.Module | None = None, cell: str = "LSTM") -> tuple[TensorDictSequential, TransformedEnv]:
    torch.manual_seed(0)
    sizes = {"input_size": 4, "hidden_size": H, "num_layers": LAYERS}
    arguments = sizes if layer is None else {cell.lower(): layer}
    lstm = MODULES[cell](**arguments, in_key="observation", out_key="features")
    policy = TensorDictSequential(
        lstm,
        TensorDictModule(nn.Linear(H, 2), in_keys=["features"], out_keys=["logits"]),
        TensorDictModule(choose, in_keys=["logits"], out_keys=["action"]),
    )
    return policy, TransformedEnv(GymEnv("CartPole-v1"), Compose(InitTracker(), lstm.make_tensordict_primer()))


def rollout(policy: TensorDictSequential, env: TransformedEnv, seed: int) -> TensorDict:
    env.set_seed(seed)
    with torch.no_grad():
        return env.rollout(STEPS, policy, break_when_any_done=False)


def batch_of(policy: TensorDictSequential, env: TransformedEnv) -> TensorDict:
    batch = torch.stack([rollout(policy, env, seed) for seed in range(ROLLOUTS)])
    assert batch["is_init"][:, 1:].any(1).all(), "in every row an episode begins midway"
    return batch


def loss_of(policy: TensorDictSequential, batch: TensorDict) -> tuple[TensorDict, Tensor]:
    with set_recurrent_mode(True):
        found = policy(batch.exclude("features", "logits", "action", "next"))
    scores = nn.functional.log_softmax(found["logits"], -1)
    state = STATES["LSTM" if ("next", "recurrent_state_c") in found.keys(True) else "GRU"][-1]
    return found, scores[..., 0].mean() + found["next", state].square().mean()


@pytest.mark.parametrize("cell", MODULES)
def test_a_batch_of_rollouts(cell):
    policy, env = policy_and_env(cell=cell)
    batch = batch_of(policy, env)

    def run() -> Results:
        found, loss = loss_of(policy, batch)
        states = {name: found["next", name].detach() for name in STATES[cell]}
        return {"logits": found["logits"].detach(), **states, **gradients(loss, policy)}

    hold("torchrl", f"{cell}Module, 8 rollouts of 64 steps, forward and backward", policy, run)


@pytest.mark.parametrize("cell", MODULES)
def test_acting(cell):
    policy, env = policy_and_env(cell=cell)

    def run() -> Results:
        played = rollout(policy, env, seed=0)
        return {name: played[name] for name in ("action", "logits", *STATES[cell])}

    hold("torchrl", f"{cell}Module, 64 steps of acting", policy, run)


def train(layer: nn.Module | None, convert: bool = False) -> list[float]:
    policy, env = policy_and_env(layer)
    batch = batch_of(policy, env)
    if convert:
        assert fastlstm.convert(policy, keep_type=True).changed == ["module.0.lstm"]
        assert type(policy[0].lstm) is nn.LSTM
    optimizer, losses = torch.optim.Adam(policy.parameters(), 1e-2), []
    for _ in range(5):
        _, loss = loss_of(policy, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_through_episodes_that_begin_midway():
    torch.manual_seed(0)
    theirs = nn.LSTM(4, H, LAYERS, batch_first=True)
    ours = fastlstm.LSTM(4, H, LAYERS, batch_first=True)  # torchrl gives this one a mask
    ours.load_state_dict(theirs.state_dict())
    state = {name: t.clone() for name, t in theirs.state_dict().items()}
    expected = train(theirs)
    theirs.load_state_dict(state)
    for found in (train(ours), train(theirs, convert=True)):
        torch.testing.assert_close(found, expected, **TRAINED_LOSS_FLOAT32)
    assert expected[-1] < expected[0]
