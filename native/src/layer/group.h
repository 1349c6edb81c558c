// A part of a team.
#pragma once
#include "isa/vec.h"
#include "team/barrier.h"
#include "team/team.h"

namespace fastlstm::FASTLSTM_ISA {

// A part of a team, with its own barrier: the team itself, or the half of it that has one direction.
struct Group {
  int rank;
  int size;
  Barrier* barrier;
  Barrier* half_teams;  // two, of its even and its odd ranks, where it is the whole team
};

// Who works at a direction together, where the plan gives each direction half of the team.
inline Group group_of(bool by_direction, const Member& member) {
  if (by_direction) return {member.rank / 2, member.size / 2, member.half_teams + member.rank % 2, nullptr};
  return {member.rank, member.size, member.barrier, member.half_teams};
}

}  // namespace fastlstm::FASTLSTM_ISA
