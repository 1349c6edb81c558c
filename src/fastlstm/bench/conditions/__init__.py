"""What a fast engine must also be: cheap to start, sparing with memory, steady under load and with torch's own threads.

A module for each condition, with `measure` (the readings of a cell) and `judge` (the verdict on them); here they have
their names.
To add one: its module, a line in CONDITIONS.
"""

from fastlstm.bench.conditions import first_call, load, memory, resident, threads
from fastlstm.bench.conditions.condition import Condition
from fastlstm.bench.conditions.process import TELLS_MEMORY

CONDITIONS = {
    "first-call": Condition(first_call.measure, first_call.judge, 4),
    "memory": Condition(memory.measure, memory.judge, 4, TELLS_MEMORY),
    "resident": Condition(resident.measure, resident.judge, 3, TELLS_MEMORY),
    "load": Condition(load.measure, load.judge, 3),
    "threads": Condition(threads.measure, threads.judge, 3),
}
