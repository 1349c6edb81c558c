"""What a run of these tests ends with: a line of time ratios for everything that was held to torch's results."""

import pytest

from tests.ecosystem.three_ways import LINES


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore")  # the packages' own are not ours to mend


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if LINES:
        terminalreporter.section("torch's time over the engine's (above 1: the engine is faster)")
        for line in LINES:
            terminalreporter.write_line(line)
