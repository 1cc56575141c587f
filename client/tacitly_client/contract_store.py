"""This device's copy of the officers' log: what it knows of officers, plans, policy and stops.

    store = ContractStore(home)
    contract = store.load()                    # verified from the pinned genesis on, each time
    contract = store.extend(entries, after=n)  # all of them, or none and the reason is kept

The log says what this device may do, whoever serves it. An extension that does not hang
together changes nothing but `contract.problem`: the name of the code that every task is answered
with until a sound refresh.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tacitly_client.files import only_writer, remove, write_whole
from tacitly_client.home import AgentHome, read_enrolment
from tacitly_common.contract.acts import ContractError, parse_entry
from tacitly_common.contract.log import Contract, advance, read_log
from tacitly_common.wire.codes import ReplyCode


@dataclass(frozen=True, slots=True)
class ContractStore:
    """The log in one agent's home. Safe with several processes."""

    home: AgentHome

    def begin(self, entries: Sequence[bytes], *, genesis: str) -> Contract:
        """Keep the log as it was handed out at enrolment; durable on return.

        Raises:
            ContractError: it is unsound, or begins with another entry than `genesis`.
        """
        contract = read_log(entries, genesis=genesis)
        with only_writer(self.home.contract):
            self._write(entries)
        return contract

    def load(self) -> Contract:
        """What the log amounts to, every signature and hash checked.

        Raises:
            ContractError: the file is missing, cut off or altered; the place.
            ValidationError: no agent is enrolled here.
        """
        return read_log(self._lines(), genesis=read_enrolment(self.home).genesis)

    def extend(self, entries: Sequence[bytes], *, after: int) -> Contract:
        """Take over what a desk says follows the first `after` entries; durable on return.

        Entries that are held already (another process was faster) must be the same. With
        nothing new the log is sound again: a problem from an earlier refresh is forgotten.

        Raises:
            ContractError: refused, all of it; the log stays as it was and `problem` is the
                error's code. Also if the log held here is unsound.
        """
        with only_writer(self.home.contract):
            held = self._lines()
            contract = self.load()
            known = held[after:]
            try:
                if list(entries[: len(known)]) != known[: len(entries)]:
                    raise ContractError(
                        ReplyCode.LOG_FORGED,
                        f"the desk serves another entry {after} than this device holds",
                    )
                added = entries[len(known) :]
                for line in added:
                    contract = advance(contract, parse_entry(line))
            except ContractError as error:
                write_whole(self.home.contract_problem, error.code.name.encode())
                raise
            if added:
                self._write([*held, *added])
            remove(self.home.contract_problem)
        return contract

    def problem(self) -> ReplyCode | None:
        """Why the last refresh was refused; None if it was not."""
        try:
            return ReplyCode[self.home.contract_problem.read_text()]
        except FileNotFoundError:
            return None
        except (KeyError, UnicodeDecodeError):
            return ReplyCode.LOG_FORGED

    def _lines(self) -> list[bytes]:
        try:
            content = self.home.contract.read_bytes()
        except FileNotFoundError:
            content = b""
        # The last line of a file that was cut off is no entry, and refused as none.
        return content.removesuffix(b"\n").split(b"\n") if content else []

    def _write(self, lines: Sequence[bytes]) -> None:
        write_whole(self.home.contract, b"".join(line + b"\n" for line in lines))
