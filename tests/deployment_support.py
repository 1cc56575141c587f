"""What tests do to a real deployment beyond what its demonstration does."""

from tacitly_simulations.demo.deployment import Deployment


def stop_agents(deployment: Deployment) -> None:
    """End every agent as a person would (SIGTERM) and wait until it has."""
    running = [agent.process for agent in deployment.agents if agent.process is not None]
    for process in running:
        process.terminate()
    for process in running:
        process.wait()
