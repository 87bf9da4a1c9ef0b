"""A client that takes any server of the deployment, by a connection a request, as the agents do."""

import asyncio

from tests.drill.deployment import port_of
from tests.support.slow_senders import converse, head

PATIENCE_SECONDS = 60
# Answers after which the agents ask again; a server that ends tells slow bodies 408.
AGAIN = frozenset({408, 429, 503})


class Client:
    """Asks the deployment; notes answers that nobody may give or lose."""

    def __init__(self, deployment, ledger):
        self._deployment, self._ledger = deployment, ledger
        self.steady_requests = 0

    async def ask(self, path, body, *headers, pieces=1, pause=0.0):
        """Return the answer of some server, or None where it gave no whole one; the body goes in some pieces."""
        port = self._deployment.port()
        self.steady_requests += port == port_of(self._deployment.steady)
        begin = head(path, *headers, f"Content-Length: {len(body)}", "Connection: close")
        size = -(-len(body) // pieces)
        parts = [body[start : start + size] for start in range(0, len(body), size)]
        self._deployment.in_flight[port] += 1
        try:
            answer = await self._whole_answer(port, path, [begin + parts[0], *parts[1:]], pause)
        finally:
            self._deployment.in_flight[port] -= 1
        if answer is not None and answer.status == 500:
            self._ledger.violate("no request is answered by 500", f"{path}: {answer.body[:200]}")
        return answer

    async def _whole_answer(self, port, path, pieces, pause):
        """Return what a server answered, or None for no answer or a part of one."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer = await converse(port, pieces, pause)
            is_whole = answer.status is not None and len(answer.body) == int(answer.headers["content-length"])
            if is_whole:
                self._ledger.count(f"answers {answer.status}")
                return answer
            self._lose(port, path, "a part of an answer" if answer.status else "no answer")
        except (OSError, TimeoutError, LookupError, ValueError) as error:
            self._lose(port, path, type(error).__name__)
        return None

    def _lose(self, port, path, why):
        """Note an answer that was lost, which only a server may do that is killed."""
        self._ledger.count("connections refused" if why == ConnectionRefusedError.__name__ else "answers lost")
        if not self._deployment.may_lose(port):
            example = f"{why} of {path} on the server that is {self._deployment.name(port)}"
            self._ledger.violate("a server that nobody killed loses no answer", example)
