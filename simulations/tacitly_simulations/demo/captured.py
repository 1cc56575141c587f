"""`tacitly-sim demo --capture`: the demo on what agents captured themselves.

1. A public starting model and a plan at the level of key classes.
2. Two people enrol and agree to capture. Each has a display, with the agent's indicator on it.
3. A program types and points there. The agents capture it from the X server.
4. Both people join the campaign; from here on as in demo.py.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

from tacitly_client.capture.hold import LEAST_HOLD_SECONDS
from tacitly_client.capture.process import FLUSH_SECONDS
from tacitly_client.capture.state import Doing, read_state
from tacitly_client.store import EventStore
from tacitly_common.campaign import Family, Level, TokenPlan
from tacitly_common.vocabulary import VOCABULARY_VERSION, Vocabulary
from tacitly_simulations.datasets.synthetic import synthetic_person
from tacitly_simulations.demo.demo import Stage
from tacitly_simulations.demo.deployment import Agent, Deployment
from tacitly_simulations.demo.desktop import Desktop
from tacitly_simulations.demo.people import public_model
from tacitly_simulations.demo.plan import RECORD, demo_plan, model_config
from tacitly_simulations.demo.rounds import DemoError

_PEOPLE: Final = 2
_INPUT_EVENTS: Final = 4_000
# Two people cannot be hidden from each other; this much lets them learn something.
_NOISE_MULTIPLIER: Final = Decimal("0.01")
_START_SECONDS: Final = 60.0
_LABEL: Final = "Typed by a program on two X displays and captured by two agents. Nobody's events."


def run_captured_demo(out: Path, *, rounds: int) -> None:
    """Run the demo of capture and write `out`/report.html.

    Raises:
        DesktopError: no X server can be started.
        DemoError: an agent does not capture, or no round was released for some minutes.
        ValidationError: `out` holds something that is not an earlier demo.
    """
    stage = Stage.set(out)
    tokens = TokenPlan(
        vocabulary_version=VOCABULARY_VERSION, level=Level.CLASSES, families=tuple(sorted(Family))
    )
    with stage.console.status("preparing a public starting model"):
        model = public_model(model_config(tokens), tokens, RECORD)
    now = datetime.now(UTC)
    months = sorted({f"{now:%Y-%m}", f"{now + timedelta(hours=1):%Y-%m}"})
    plan = demo_plan(
        tokens,
        months,
        model,
        people=_PEOPLE,
        minimum=_PEOPLE,
        rounds=rounds,
        noise_multiplier=_NOISE_MULTIPLIER,
    )
    stage.introduce(_LABEL, plan)
    with ExitStack() as stack:
        desktops = [stack.enter_context(Desktop()) for _ in range(_PEOPLE)]
        deployment = stack.enter_context(Deployment.prepare(out / "deployment", plan))
        with stage.console.status("enrolling two people, who agree to capture"):
            for number, desktop in enumerate(desktops, 1):
                agent = deployment.enrol(f"machine-{number:02d}")
                deployment.run_agent_command(agent, "consent", "give", "--yes")
                deployment.start_agent(agent, display=desktop.display)
            for agent in deployment.agents:
                _await_capture(agent)
        with stage.console.status("typing and pointing on two displays"):
            with ThreadPoolExecutor() as pool:
                list(pool.map(_type, desktops, range(_PEOPLE)))
            # What was typed last is held back, and then waits for a frame to fill.
            time.sleep(LEAST_HOLD_SECONDS + FLUSH_SECONDS + 1)
        deployment.stop_agents()
        vocabulary = Vocabulary(tokens)
        counts, streams = [], []
        for agent in deployment.agents:
            with EventStore.open(agent.home.store) as store:
                events = list(store.events())
            counts.append(len(events))
            streams.append(vocabulary.encode(events))
            stage.console.print(
                f"{agent.name} captured {len(events):,} events: {streams[-1].size:,} tokens"
            )
        deployment.start_campaign(plan, model)
        for agent, desktop in zip(deployment.agents, desktops, strict=True):
            deployment.join(agent)
            deployment.start_agent(agent, display=desktop.display)
        stage.conduct(deployment, _LABEL, streams, model, rounds, counts)


def _type(desktop: Desktop, seed: int) -> None:
    desktop.play(synthetic_person(seed, _INPUT_EVENTS).events)


def _await_capture(agent: Agent) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while (state := read_state(agent.home.capture_state)).doing is not Doing.CAPTURING:
        if time.monotonic() > deadline:
            raise DemoError(
                f"{agent.name} does not capture after {_START_SECONDS:.0f} s but is "
                f"{state.doing.value} {state.reason}; see its log below the deployment's logs"
            )
        time.sleep(0.2)
