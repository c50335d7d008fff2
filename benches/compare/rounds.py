"""Plays a scenario in rounds: in each, every contender has one burst, and each round another one
begins. So whatever else troubles the machine meanwhile troubles all of them, and the ratios of one
round stay true where the absolute figures do not."""

import sys
from collections.abc import Callable
from dataclasses import replace

import bursts
from load import LoadError, check_placement
from processes import ProcessError
from scenarios import Contender, Scenario
from stage import Proxy, Stage

# A contender that fails so often in a row is left out of the rest.
FAILURES_MAX = 3

Record = dict[str, object]


class Rounds:
    def __init__(self, scenario: Scenario, stage: Stage, keep: Callable[[Record], None]):
        self._scenario = scenario
        self._stage = stage
        self._keep = keep
        self._proxies: dict[object, Proxy] = {}
        self._failures: dict[str, int] = {}

    def play(self, rounds: int) -> None:
        """Plays all rounds; each burst's measures, or why it failed, go to `keep`."""
        contenders = [each for each in self._scenario.contenders if self._prepare(each)]
        contenders = self._at_share_of_saturation(contenders)
        for number in range(rounds):
            first = number % max(len(contenders), 1)
            for contender in contenders[first:] + contenders[:first]:
                if self._failures.get(contender.name, 0) < FAILURES_MAX:
                    self._play_burst(contender, number)

    def _prepare(self, contender: Contender) -> bool:
        """Starts the contender, checks that it shards, and warms it up."""
        try:
            self._stage.start_nodes(contender.load, contender.settings.nodes)
            if contender.anew:
                return True
            proxy = self._proxy(contender)
            if contender.load.client == "http1" and contender.peer != "relay":
                shards_min = min(contender.settings.nodes, 8)
                check_placement(proxy.place.port, contender.load, shards_min)
            bursts.cpu(self._stage, proxy, contender.load)
            return True
        except (ProcessError, LoadError, OSError) as error:
            self._report(contender, error, {"round": None})
            return False

    def _at_share_of_saturation(self, contenders: list[Contender]) -> list[Contender]:
        share = self._scenario.saturation_share
        if share is None:
            return contenders
        measures = [
            bursts.cpu(self._stage, self._proxy(each), each.load) for each in contenders
        ]
        rate = round(share * min(each["requests_per_second"] for each in measures))
        return [replace(each, load=replace(each.load, rate=rate)) for each in contenders]

    def _play_burst(self, contender: Contender, number: int) -> None:
        about = {"round": number, "rate": contender.load.rate}
        proxy = None
        try:
            proxy = self._proxy(contender)
            measures = contender.burst(self._stage, proxy, contender.load)
            self._keep({**self._about(contender), **about, **measures})
            self._failures[contender.name] = 0
        except (ProcessError, LoadError, OSError) as error:
            self._failures[contender.name] = self._failures.get(contender.name, 0) + 1
            self._report(contender, error, about)
        finally:
            if proxy and contender.anew:
                self._stage.end_proxy(proxy)

    def _proxy(self, contender: Contender) -> Proxy:
        """The contender's proxy, which it may share with others that differ in their load alone."""
        if contender.anew:
            return self._start(contender)
        key = (contender.peer, contender.settings)
        if key not in self._proxies:
            self._proxies[key] = self._start(contender)
        return self._proxies[key]

    def _start(self, contender: Contender) -> Proxy:
        return self._stage.start_proxy(
            contender.name, contender.peer, contender.load, contender.settings
        )

    def _about(self, contender: Contender) -> Record:
        return {"scenario": self._scenario.name, "contender": contender.name}

    def _report(self, contender: Contender, error: Exception, about: Record) -> None:
        proxy = self._proxies.get((contender.peer, contender.settings))
        message = str(error)
        if proxy and proxy.process.has_ended():
            self._failures[contender.name] = FAILURES_MAX
            status = proxy.process.popen.returncode
            message += f"\n  {contender.name} has ended with status {status}"
        if proxy and not isinstance(error, ProcessError):
            message += f"; its log:\n{proxy.process.log_tail()}"
        print(f"  failed: {self._scenario.name}, {contender.name}: {message}", file=sys.stderr)
        self._keep({**self._about(contender), **about, "error": str(error)})
