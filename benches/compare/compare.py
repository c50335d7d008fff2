"""The command: reads the options, plays the scenarios, reports. See README.md."""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import chart
import report
from build import REPOSITORY, BuildError, build_keyway, build_tools
from load import Load
from peers import COMMANDS, Tools
from processes import ProcessError, Workspace, raise_open_files_limit
from rounds import Record, Rounds
from scenarios import SCENARIOS, Scenario
from stage import Cores, Stage

QUICK_ROUNDS = 2
QUICK_DIVISOR = 4
VERSION_COMMANDS = {
    "haproxy": ["haproxy", "-v"],
    "nginx": ["nginx", "-v"],
    "h2load": ["h2load", "--version"],
}


def main() -> int:
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        return _compare(options)
    except (BuildError, ProcessError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("compare: interrupted; everything started is ended", file=sys.stderr)
        return 130


def _interrupt(*_: object) -> None:
    """Leaves every `with` in order, and a second signal does not disturb that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compares keyway with its peers here; README.md tells how to read it.",
        epilog="scenarios:\n"
        + "\n".join(f"  {each.name:<15} {each.title}" for each in SCENARIOS)
        + "\n\npeers: "
        + ", ".join(peer for peer in COMMANDS if peer != "keyway"),
    )
    add = parser.add_argument
    add("--scenario", metavar="A,B", help="only these scenarios")
    add("--peers", metavar="A,B", help="only these peers")
    add("--rounds", metavar="N", type=_positive, default=16, help="rounds (default: %(default)s)")
    add("--requests", metavar="N", type=_positive, help="requests a burst (default: by scenario)")
    add(
        "--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds of short bursts, to try it out"
    )
    add("--keyway", metavar="PATH", type=_program, help="a built keyway (default: build this one)")
    add("--envoy", metavar="PATH", type=_program, help="an Envoy, which then takes part")
    add("--pingora", metavar="PATH", type=_program, help="a Pingora proxy, which then takes part")
    add(
        "--out",
        metavar="DIR",
        type=Path,
        default=REPOSITORY / "target" / "compare",
        help="where results.jsonl, table.md and chart.svg go (default: target/compare)",
    )
    add("--svg", metavar="FILE", type=Path, help="where the chart goes (default: DIR/chart.svg)")
    add(
        "--base-port",
        metavar="N",
        type=_positive,
        default=18000,
        help="the first of about 20 loopback ports (default: %(default)s)",
    )
    options = parser.parse_args()
    options.scenario = _chosen(
        parser, "scenario", options.scenario, [each.name for each in SCENARIOS]
    )
    options.peers = _chosen(parser, "peer", options.peers, list(COMMANDS))
    if options.quick:
        options.rounds = min(options.rounds, QUICK_ROUNDS)
    return options


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return int(text)


def _program(text: str) -> Path:
    path = Path(text).resolve()
    if not os.access(path, os.X_OK) or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no program")
    return path


def _chosen(
    parser: argparse.ArgumentParser, what: str, names: str | None, known: list[str]
) -> list[str]:
    if names is None:
        return known
    chosen = names.split(",")
    for name in chosen:
        if name not in known:
            parser.error(f"no {what} is called {name!r}; there are: {', '.join(known)}")
    return chosen


def _compare(options: argparse.Namespace) -> int:
    cores = Cores()
    if len(cores.all) < 2:
        raise ProcessError("two cores are needed: one for the proxy, one for the load")
    options.out.mkdir(parents=True, exist_ok=True)
    built = build_tools(options.out / "tools")
    keyway = options.keyway or build_keyway()
    tools = Tools(keyway=keyway, envoy=options.envoy, pingora=options.pingora, **built)
    files_max = raise_open_files_limit()
    scenarios = _scenarios(options, tools)
    records: list[Record] = []
    with (options.out / "results.jsonl").open("w") as results:

        def keep(record: Record) -> None:
            records.append(record)
            results.write(json.dumps(record) + "\n")
            results.flush()

        results.write(json.dumps(_circumstances(options, keyway)) + "\n")
        for scenario in scenarios:
            print(f"{scenario.name}: {scenario.title}", flush=True)
            with Workspace() as workspace:
                stage = Stage(
                    workspace,
                    tools,
                    cores=cores,
                    proxy_cores=scenario.proxy_cores,
                    base_port=options.base_port,
                    files_max=files_max,
                )
                rounds = min(options.rounds, scenario.rounds_max or options.rounds)
                Rounds(scenario, stage, keep).play(rounds)
    rows = [row for each in scenarios for row in report.rows(each, records)]
    if rows:
        _publish(options, rows)
    else:
        print("compare: there is nothing to compare", file=sys.stderr)
    return 0 if rows and not any("error" in record for record in records) else 1


def _scenarios(options: argparse.Namespace, tools: Tools) -> list[Scenario]:
    peers = set(options.peers)
    for name, path in {"envoy": tools.envoy, "pingora": tools.pingora}.items():
        if name in peers and path is None:
            peers.remove(name)
            print(f"not compared without --{name} PATH: {name}")
    chosen = []
    for scenario in SCENARIOS:
        if scenario.name not in options.scenario:
            continue
        scenario = scenario.with_peers(peers).with_loads(lambda load: _scaled(load, options))
        if scenario.comparisons:
            chosen.append(scenario)
        else:
            print(f"skipped, for none of its peers takes part: {scenario.name}")
    return chosen


def _scaled(load: Load, options: argparse.Namespace) -> Load:
    divisor = QUICK_DIVISOR if options.quick else 1
    if load.seconds or not load.requests:
        return load
    return replace(load, requests=(options.requests or load.requests) // divisor)


def _circumstances(options: argparse.Namespace, keyway: Path) -> Record:
    """What one must know to compare results with others."""
    versions = {"keyway": [str(keyway), "--version"], **VERSION_COMMANDS}
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "rounds": options.rounds,
        "quick": options.quick,
        "versions": {name: _first_line(command) for name, command in versions.items()},
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(command: list[str]) -> str:
    run = subprocess.run(command, capture_output=True, text=True)
    return (run.stdout + run.stderr).partition("\n")[0]


def _publish(options: argparse.Namespace, rows: list[report.Row]) -> None:
    svg = options.svg or options.out / "chart.svg"
    table = report.table(rows)
    (options.out / "table.md").write_text(table + "\n")
    svg.write_text(chart.draw(rows))
    print(f"\n{table}\n\nEvery burst: {options.out / 'results.jsonl'}\nChart: {svg}")


if __name__ == "__main__":
    sys.exit(main())
