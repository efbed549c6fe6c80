"""A process: what it knows of the nodes, and the driver of its Ops."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from distcache_django.core import requests as r
from distcache_django.core.agreement import Agreement
from distcache_django.core.clock import Stamps
from distcache_django.core.counting import Counting, Own
from distcache_django.core.effects import Ask, Effect, Gather, Op, Pause, Raised, step
from distcache_django.core.fence import Standings
from distcache_django.core.repair import Repair
from distcache_django.core.replicas import Limits, Replicas
from distcache_django.core.replicated import ReplicatedCoordinator
from distcache_django.exceptions import DistcacheError, NodeTimeout, NodeUnreachable, TransportError
from distcache_django.transport.health import OutOfTime, known_down, report
from tests.replication.world import DEADLINE, DRIFT, Machine, Steps, Task, World

_WAITING = object()


class Process:
    """Be a process with links and a view of the nodes of its own."""

    def __init__(self, world: World, *, skew: float = 0.0, topology: bytes = b"the ring") -> None:
        self.world = world
        self.name = f"p{len(world.processes) + 1}"
        world.processes.append(self)
        self.skew = skew
        self.is_dead = False
        self.is_agent = False
        self.paused_until = 0.0
        self.down: frozenset[str] = frozenset()
        #: Which run of each node the last link has reached.
        self.links: dict[str, int] = {}
        self.generations = dict.fromkeys(world.machines, 0)
        self.standings = Standings(
            topology,
            list(world.machines),
            generation=self.generations.__getitem__,
            wall=lambda: world.now + self.skew,
            random=world.random.randbytes,
            quarantine_ms=1000,
        )
        self.stamps = Stamps(world.random.randbytes(6), nullcontext())
        self.replicas = Replicas(
            world.topology,
            self.standings,
            self.stamps,
            read=world.read,
            write=world.write,
            limits=Limits(DEADLINE, DRIFT),
            down=lambda: self.down,
        )
        self.agreement = Agreement(self.replicas, world.random.uniform)
        self.repair = Repair(self.replicas, lambda key: not key.startswith("dc:"))

    # ------------------------------------------------------------------ what a driver tells about health

    def failed(self, node: str, _reason: str, _owed: Sequence[str] = ()) -> None:
        """Ask a node no more until it has been probed."""
        if node not in self.down:
            self.down |= {node}
            self.world.at(self.world.random.uniform(0.02, 0.4), self.probe, node)

    def owe(self, node: str, keys: Sequence[str], patterns: Sequence[str] = ()) -> None:
        raise AssertionError(f"{keys} of {node} owed: nothing is deleted where it is replicated")

    def owe_bumps(self, node: str, keys: Sequence[str]) -> None:
        raise AssertionError(f"bumps of {keys} owed to {node}")

    def probe(self, node: str) -> None:
        """Use a node again if it answers."""
        if self.can_reach(node):
            self.down -= {node}
        else:
            self.world.at(self.world.random.uniform(0.05, 0.3), self.probe, node)

    def can_reach(self, node: str) -> bool:
        return self.world.machines[node].is_well and not self.world.is_cut(self, node)

    # ------------------------------------------------------------------ the driver

    def run(self, op: Op[Any], deadline: float = DEADLINE) -> Steps:
        """Run an Op to its end and return its result."""
        world = self.world
        expires = world.now + deadline
        try:
            effect: Effect = op.send(None)
            while True:
                outcome: Any = None
                if isinstance(effect, Pause):
                    yield effect.seconds
                    expires = world.now + deadline
                elif isinstance(effect, Ask):
                    (reply,) = yield Round(self, [effect], expires, 1.0)
                    outcome = Raised(reply) if isinstance(reply, DistcacheError) else reply
                else:
                    assert isinstance(effect, Gather)
                    outcome = (yield Round(self, effect.asks, expires, effect.patience)) if effect.asks else []
                effect = step(op, outcome)
        except StopIteration as done:
            return done.value


class Thread:
    """Be one of the threads of a process: what it counts is apart."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.fields: dict[str, Own] = {}
        counting = Counting(process.replicas, process.agreement, lambda: self.fields, process.world.random.randbytes)
        self.cache = ReplicatedCoordinator(process.replicas, process.agreement, counting)


class Round:
    """Be requests on their way, and the replies so far."""

    def __init__(self, process: Process, asks: Sequence[Ask], expires: float, patience: float) -> None:
        self.process = process
        self.world = process.world
        self.asks = asks
        self.outcomes: list[Any] = [_WAITING] * len(asks)
        self.left = len(asks)
        self.expires = expires
        self.patience = patience
        self.task: Task | None = None

    def begin(self, task: Task) -> None:
        """Send all requests."""
        world = self.world
        self.task = task
        remaining = self.expires - world.now
        # Not in the order of the Op's: it may have it from a set, whose order is not the same in every run.
        for index in sorted(range(len(self.asks)), key=lambda index: self.asks[index].node):
            ask = self.asks[index]
            if ask.node in self.process.down:
                self.take(index, known_down(self.process, ask.node, ask.request))
            elif remaining <= 0:
                self.take(index, OutOfTime(ask.node, "no time left"))
            else:
                Exchange(self, index, ask.node, ask.request).send()
        if self.left:
            world.at(max(0.0, remaining * self.patience), self.give_up)

    def give_up(self) -> None:
        """Take who has not answered by now for failed."""
        if self.process.paused_until > self.world.now:  # what arrived in the meantime is read first
            self.world.at(self.process.paused_until - self.world.now, self.give_up)
            return
        for index in sorted(range(len(self.asks)), key=lambda index: self.asks[index].node):
            if self.outcomes[index] is _WAITING:
                self.fail(index, NodeTimeout(self.asks[index].node, "no answer in time"))

    def fail(self, index: int, error: TransportError) -> None:
        """Take a failure, and tell the process's health of it."""
        if self.outcomes[index] is _WAITING:
            report(self.process, self.asks[index].request, error)
            self.take(index, error)

    def take(self, index: int, outcome: Any) -> None:
        """Take a reply; the last one lets the task go on."""
        if self.outcomes[index] is not _WAITING:
            return
        self.world.note(
            self.process.name, "<-", self.asks[index].node, type(self.asks[index].request).__name__, outcome
        )
        self.outcomes[index] = outcome
        self.left -= 1
        if not self.left:
            assert self.task is not None
            self.world.at(0.0, self.world.go_on, self.task, self.outcomes)


class Exchange:
    """Be one request on its way to a node, and its reply on the way back."""

    __slots__ = ("boots", "index", "machine", "process", "request", "round", "world")

    def __init__(self, of: Round, index: int, node: str, request: r.Request) -> None:
        self.round = of
        self.index = index
        self.request = request
        self.process = of.process
        self.world = of.world
        self.machine: Machine = self.world.machines[node]
        self.boots = 0

    def send(self) -> None:
        """Take a link, a new one if need be, and send the request, which chance may lose, delay or send twice."""
        world, machine, process = self.world, self.machine, self.process
        self.boots = machine.node.boots
        if machine.is_dead:
            self.later(world.travel(), self.fail, NodeUnreachable(machine.name, "connection refused"))
            return
        if process.links.get(machine.name) != self.boots:
            if not process.can_reach(machine.name):
                return  # it accepts, maybe, and does not say who it is: nothing is sent
            process.links[machine.name] = self.boots
            process.generations[machine.name] += 1
        world.note(process.name, "->", machine.name, self.request)
        if world.is_cut(process, machine.name):
            world.stranded.append((machine, self.arrive))
        elif world.random.random() < world.loss:
            self._mishap()
        else:
            world.at(world.travel(), self.arrive)

    def _mishap(self) -> None:
        world, name = self.world, self.machine.name
        fate = world.random.choice(("lost", "late", "late", "twice", "broken"))
        if fate == "late":
            world.at(world.random.choice((0.1, 0.3, 0.6, 2.0, 5.0)) * (0.5 + world.random.random()), self.arrive)
        elif fate == "twice" and self.request.repeatable:
            world.at(world.random.random() * world.random.choice((1.0, 4.0)), self.arrive)
            world.at(world.travel(), self.arrive)
        elif fate == "broken":
            world.at(world.travel(), self.arrive)
            self.later(world.travel(), self.fail, NodeTimeout(name, "link broke"))

    def later(self, delay: float, function: Callable[[Any], None], argument: Any) -> None:
        """Have the process hear of something, if it runs by then."""
        self.world.at(delay, self.when_running, function, argument)

    def when_running(self, function: Callable[[Any], None], argument: Any) -> None:
        """Let the process hear of something once it runs."""
        process = self.process
        if process.paused_until > self.world.now:
            self.world.at(process.paused_until - self.world.now, self.when_running, function, argument)
        elif not process.is_dead:
            function(argument)

    def fail(self, error: TransportError) -> None:
        self.round.fail(self.index, error)

    def arrive(self) -> None:
        """Reach the node, unless the link has ended with the server that it led to."""
        machine = self.machine
        if machine.is_dead or machine.node.boots != self.boots:
            self.later(self.world.travel(), self.fail, NodeTimeout(machine.name, "link broke: closed by the server"))
        elif machine.is_paused:
            machine.inbox.append(self.execute)
        else:
            self.execute()

    def execute(self) -> None:
        """Be executed, and answer."""
        world = self.world
        reply = world.execute(self.machine, self.request)
        if world.trap is not None and type(self.request) is r.Put:
            world.trap(world, self.process, self.machine)
        if world.is_cut(self.process, self.machine.name) or world.random.random() < world.loss / 2:
            world.note(self.machine.name, "executes", self.request, "unheard", reply)
            return
        if self.round.outcomes[self.index] is not _WAITING:
            world.note(self.machine.name, "executes late", self.request, reply)
            return
        self.later(world.travel(), self._answer, reply)

    def _answer(self, reply: Any) -> None:
        self.round.take(self.index, reply)
