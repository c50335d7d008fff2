"""Plays a scenario in rounds: in each, every contender has one burst, and each round another one
begins. So whatever else troubles the machine meanwhile troubles all of them, and the ratios of one
round stay true where the absolute figures do not."""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import bursts
from load import LoadError, check_placement
from processes import ProcessError
from scenarios import Contender, Scenario
from stage import Proxy, Stage

# A contender that fails so often in a row is left out of the rest.
FAILURES_MAX = 3

Record = dict[str, Any]


class Rounds:
    """The rounds of one scenario."""

    def __init__(self, scenario: Scenario, stage: Stage, keep: Callable[[Record], None]):
        self._scenario = scenario
        self._stage = stage
        self._keep = keep
        self._proxies: dict[object, Proxy] = {}
        self._failures: Counter[str] = Counter()
        """How often each contender has failed in a row."""
        self._rates: dict[str, float] = {}
        """Requests a second at which each contender was saturated when it was warmed up."""

    def play(self, rounds: int) -> None:
        """Plays all rounds; each burst's measures, or why it failed, go to `keep`."""
        for contender in self._scenario.contenders:
            self._stage.start_nodes(contender.load, contender.settings.nodes)
            self._prepare(contender)
        for number in range(rounds):
            contenders = self._compared()
            first = number % max(len(contenders), 1)
            for contender in contenders[first:] + contenders[:first]:
                self._play_burst(self._at_share_of_saturation(contender), number)

    def _compared(self) -> list[Contender]:
        """The contenders that are left and have something left to be compared with."""
        left = {
            each.name
            for each in self._scenario.contenders
            if self._failures[each.name] < FAILURES_MAX
        }
        pairs = [{each.subject, each.baseline} for each in self._scenario.comparisons]
        compared = set().union(*(pair for pair in pairs if pair <= left))
        return [each for each in self._scenario.contenders if each.name in compared]

    def _prepare(self, contender: Contender) -> None:
        """Starts the contender, checks that it shards, and warms it up."""
        try:
            if contender.anew:
                return
            proxy = self._proxy(contender)
            if contender.load.client == "http1" and contender.peer != "relay":
                shards_min = min(contender.settings.nodes, 8)
                check_placement(proxy.place.port, contender.load, shards_min)
            measures = bursts.cpu(self._stage, proxy, contender.load)
            self._rates[contender.name] = measures["requests_per_second"]
        except (ProcessError, LoadError, OSError) as error:
            self._failures[contender.name] = FAILURES_MAX
            self._report(contender, error, {"round": None})

    def _at_share_of_saturation(self, contender: Contender) -> Contender:
        share = self._scenario.saturation_share
        if share is None:
            return contender
        rate = round(share * min(self._rates.values()))
        return replace(contender, load=replace(contender.load, rate=rate))

    def _play_burst(self, contender: Contender, number: int) -> None:
        about = {"round": number, "rate": contender.load.rate}
        proxy = None
        try:
            proxy = self._proxy(contender)
            measures = contender.burst(self._stage, proxy, contender.load)
            self._keep({**self._about(contender), **about, **measures})
            self._failures[contender.name] = 0
        except (ProcessError, LoadError, OSError) as error:
            self._failures[contender.name] += 1
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
