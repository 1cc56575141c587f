"""A device's training as Flower's documentation would have it: a ClientApp in a SuperNode.

Flower starts a new process for every message and imports this there. What it then does is what
our trainer does, by the same functions: charge, train, release, keep.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from tacitly_client.home import AgentHome, read_settings
from tacitly_client.training.attempt import answer
from tacitly_client.training.pipe import Job
from tacitly_common.campaign import read_plan
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Reply, parse_train_content, reply_content

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer a train message from the agent's directory that the node configuration names."""
    torch.set_num_threads(1)
    home = AgentHome(Path(str(context.node_config["home"])))
    plan = read_plan(home.plan)
    task, model = parse_train_content(message.content, parameters=plan.model.parameters)
    job = Job(plan_hash=task.plan_hash, round=task.round, attempt=task.attempt)
    code, body = answer(
        home,
        plan,
        read_settings(home),
        job,
        model.astype("<f4").tobytes(),
        now=datetime.now(UTC),
    )
    update = np.frombuffer(body, dtype="<i4").copy() if code is ReplyCode.OK else None
    return Message(reply_content(Reply(task.round, task.attempt, code, update)), reply_to=message)
