"""The bench of capture measures programs that read the same events."""

from rich.console import Console

from tacitly_simulations.bench.capture import measure, show
from x_display import need


def test_each_program_is_measured_while_idle_and_at_work() -> None:
    need("Xvfb")
    console = Console(record=True, width=110)
    idle, busy = measure(2, console, rates=[500], still_seconds=1)
    programs = [cost.program for cost in busy.costs]
    assert programs[:3] == ["Tacitly", "Tacitly, motion not permitted", "bare XInput2 reader"]
    for program in programs:
        resting, working = idle.cpu_percent(program), busy.cpu_percent(program)
        assert resting is not None
        assert working is not None
        assert resting < working
    assert all(cost.memory_bytes > 10**6 and cost.wakeups_a_second > 0 for cost in busy.costs)
    show(console, [idle, busy])
    assert "bytes/s stored" in console.export_text()
