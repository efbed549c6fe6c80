"""One history: who does what and what goes wrong, all chosen by the seed."""

from collections.abc import Mapping, Sequence
from typing import Any

from distcache_django.testing.memory_records import FENCE
from tests.replication import faults
from tests.replication.counters import Counters
from tests.replication.ledger import Ledger
from tests.replication.locks import Locks
from tests.replication.process import Process, Thread
from tests.replication.workloads import Additions, Registers, Touches
from tests.replication.world import DRIFT, START, Steps, Stuck, Task, World, short

#: Shapes of a cluster: nodes, replication factor, W and R.
SHAPES = (
    (3, 3, 2, 2),
    (3, 3, 2, 2),
    (3, 3, 2, 2),
    (3, 3, 2, 2),
    (4, 3, 2, 2),
    (5, 3, 2, 2),
    (3, 3, 3, 1),
    (2, 2, 2, 1),
)
WORKLOADS: list[Any] = [Registers, Registers, Touches, Additions, Counters, Counters, Locks]
#: Seconds of a history, before all comes to rest.
LENGTH = (1.0, 2.0, 4.0)


class History:
    """Play the history of one seed; ``Broken`` is raised where a promise was broken."""

    def __init__(
        self,
        seed: int,
        *,
        workload: Any = None,
        theme: Mapping[faults.Fault, float] | None = None,
        shape: Sequence[int] | None = None,
        agents: int | None = None,
        **fixed: Any,
    ) -> None:
        shape = shape or SHAPES[seed % len(SHAPES)]
        self.world = world = World(seed, nodes=shape[0], replication_factor=shape[1], write=shape[2], read=shape[3])
        random = world.random
        self.ledger = Ledger(world)
        self.weak = faults.machine_of(world)
        for machine in world.machines.values():
            machine.skew = random.choice((0.0, random.uniform(-DRIFT / 2, DRIFT / 2)))
        if random.random() < 0.15:
            self.weak.skew = random.choice((-3600.0, 3600.0))
        self.theme = dict(random.choice(faults.THEMES) if theme is None else theme)
        if world.read == 1:  # who asks one node alone finds nothing where that has evicted it
            self.theme.pop(faults.evict, None)
            self.theme.pop(faults.set_node_clock, None)
        if shape[0] < 3:
            self.theme.pop(faults.siege, None)
        self.ledger.is_evicting = faults.evict in self.theme
        self.trouble = random.choice((0.1, 0.2, 0.4))
        self.length = random.choice(LENGTH)
        self.paces = random.choice(((0.0, 0.001, 0.01), (0.0, 0.01, 0.1), (0.0, 0.02, 0.3)))
        self.delays = random.choice(((0.0005, 0.001), (0.0005, 0.001, 0.001, 0.01), (0.0005, 0.001, 0.03)))
        world.delays = self.delays
        self.workload = (workload or random.choice(WORKLOADS))(world, self.ledger)
        self.calls_left = random.choice((15, 30, 60))
        vars(self).update(fixed)
        self.is_resting = False
        self.tasks: list[Task] = []
        for _ in range(random.choice((2, 3))):
            self.join()
        some = random.choice((0, 1, 1, 2)) if self.theme else 0
        for _ in range(some if agents is None else agents):
            self.employ(random.choice((0.02, 0.1, 0.3)))

    def join(self) -> Process:
        """Start a process, with one thread or two."""
        world = self.world
        process = Process(world, skew=world.random.choice((0.0, 0.0, 0.0, -5.0, 5.0, 0.1)))
        for _ in range(world.random.choice((1, 1, 2))):
            self.tasks.append(world.begin(process, self.work(Thread(process)), world.random.choice(self.paces)))
        return process

    def employ(self, idle: float) -> Process:
        """Start a process that repairs, and waits for about ``idle`` seconds between two rounds."""
        process = Process(self.world, skew=self.world.random.choice((0.0, 0.0, -5.0, 5.0)))
        process.is_agent = True
        self.world.begin(process, self.mend(process, idle), idle)
        return process

    def mend(self, process: Process, idle: float) -> Steps:
        """Repair node after node, for ever."""
        random = self.world.random
        while True:
            for node in random.sample(list(self.world.machines), len(self.world.machines)):
                done = yield from process.run(process.repair.recover(node))
                self.world.note(process.name, "recovers", node, done)
                if random.random() < 0.7:
                    done = yield from process.run(process.repair.replay(node))
                    self.world.note(process.name, "replays", node, done)
                if self.world.losses and self.world.is_whole():
                    self.world.losses = 0
            if self.world.is_whole():
                yield 4 * idle  # there is nothing to do, and it takes the simulator's time
            yield idle * (0.5 + random.random())

    def replace(self, process: Process) -> None:
        """Let a process end as it is, and start another."""
        process.is_dead = True
        if process.is_agent:
            self.employ(0.1)
        else:
            self.join()

    # ------------------------------------------------------------------ what is going on

    def work(self, thread: Thread) -> Steps:
        """Make calls until there were enough."""
        random = self.world.random
        while self.calls_left > 0 and self.world.now < START + self.length:
            self.calls_left -= 1
            yield from self.workload.step(thread)
            pace = random.choice(self.paces)
            if pace:
                yield pace

    def trouble_begins(self) -> None:
        """Let something go wrong, and something else later."""
        world = self.world
        if not self.is_resting and world.now < START + self.length and self.calls_left > 0:
            (fault,) = world.random.choices(list(self.theme), list(self.theme.values()))
            fault(self)
            world.at(world.random.expovariate(1 / self.trouble), self.trouble_begins)

    def play(self) -> World:
        """Play to the end and return the world as it is then."""
        world = self.world
        if self.theme:
            world.at(world.random.expovariate(1 / self.trouble), self.trouble_begins)
        while world.now < START + self.length and not all(task.is_done or task.owner.is_dead for task in self.tasks):
            world.run(world.now + 0.25)
        try:
            self.rest()
        finally:  # what was promised always comes before what all should come to
            self.workload.check()
        return world

    def rest(self) -> None:
        """End all faults, and let everything come to its end; then all can be read."""
        world = self.world
        self.is_resting = True
        world.loss, world.delays, world.trap = 0.0, self.delays, None
        world.mend_cuts(list(world.cuts))
        for machine in world.machines.values():
            if machine.is_paused:
                machine.resume()
        for process in world.processes:
            process.paused_until = min(process.paused_until, world.now + 0.1)
        world.run(world.now + 2.5)
        for process in [process for process in world.processes if not process.is_dead and not process.is_agent]:
            world.begin(process, self._finished(Thread(process), []))
        world.run(world.now + 0.6)
        if any(machine.skew < -DRIFT for machine in world.machines.values()):
            return  # what is written now is ahead of that node's time: it misses everything until its clock is set
        self.become_whole()
        for process in world.processes:
            if not process.is_dead and not process.is_agent:
                self.come_back(process)

    def become_whole(self) -> None:
        """Have an agent repair all nodes, as long as it takes."""
        world = self.world
        if not world.is_whole():
            self.employ(0.05)
        for _ in range(10):
            if world.is_whole():
                return
            world.run(world.now + 0.6)
        fences = [machine.node.text(FENCE) for machine in world.machines.values()]
        raise Stuck(f"still not whole: {short(fences)}")

    def come_back(self, process: Process) -> None:
        """Have a process read everything, as often as it takes."""
        world, thread = self.world, Thread(process)
        for _ in range(8):
            good: list[bool] = []
            world.begin(process, self._finished(thread, good))
            world.run(world.now + 0.6)
            if good and good[0]:
                return
        raise Stuck(f"still no answers: {process.name} cannot read when all is well")

    def _finished(self, thread: Thread, good: list[bool]) -> Steps:
        good.append((yield from self.workload.finish(thread)))


def play(seed: int) -> World:
    """Play the history of a seed."""
    return History(seed).play()
