"""One history: who does what and what goes wrong, all chosen by the seed."""

from collections.abc import Callable
from contextlib import suppress

from tests.simulation.actors import Write, read, record
from tests.simulation.world import ANSWERS, MARK_LIFE, NODES, Client, Steps, World

#: Steps in one history.
LENGTH = 220


def node_of(world: World) -> str:
    return world.random.choice(NODES)


def leap(world: World) -> None:
    """Let about as much time pass as a mark lives."""
    world.now += world.random.uniform(0.3, 1.4) * MARK_LIFE


def day(world: World) -> None:
    """Let records expire."""
    world.now += world.random.uniform(0.4, 1.2) * 86_400


def crash(world: World) -> None:
    """Restart a node: with nothing, with all, or with what a snapshot held."""
    name = node_of(world)
    kept = world.random.choice([None, world.nodes[name].snapshot(), world.snapshots.get(name)])
    world.note("crash of", name, "keeps", kept is not None)
    world.restart(name, kept)


def flush(world: World) -> None:
    name = node_of(world)
    world.note("FLUSHALL at", name)
    world.nodes[name].clear()


def evict(world: World) -> None:
    """Evict a key as the policies named ``volatile-*`` do: never a marked record."""
    node = world.nodes[node_of(world)]
    keys = node.keys()
    volatile = [key for key in keys if node.is_volatile(key)]
    if volatile:
        key = world.random.choice(volatile)
        world.note("evicted at", node.name, key)
        node.discard(key)


def forget_fence(world: World) -> None:
    """Lose what says which incarnation a node is, or how many versions it has made."""
    name, key = node_of(world), world.random.choice(["dc:node", "dc:count"])
    world.note("evicted at", name, key)
    world.nodes[name].discard(key)


def cut(world: World) -> None:
    """Part one process from one node."""
    world.random.choice(world.clients).cut.add(node_of(world))


def kill(world: World) -> None:
    world.dead.add(node_of(world))


def fill_up(world: World) -> None:
    world.full.add(node_of(world))


def late(world: World) -> None:
    if world.late:
        world.execute_late()


def replace(world: World) -> None:
    """Kill a process, with the bumps it owes, and start another."""
    index = world.random.randrange(len(world.clients))
    world.note(world.clients[index].name, "is killed")
    world.clients[index] = Client(world)


def overflow(world: World) -> None:
    """Let a process owe more bumps to a node than it can remember."""
    client, name = world.random.choice(world.clients), node_of(world)
    client.debts[name].add_all_bumps()
    client.owe_bumps(name, ())


def clear(world: World) -> None:
    for node in world.nodes.values():
        for key in ANSWERS:
            node.discard(key)


#: What goes wrong in a history, and how often: one of these, or several.
THEMES: list[dict[Callable[[World], None], float]] = [
    {},
    {crash: 1.0, leap: 2.0, replace: 0.2},
    {crash: 1.0, flush: 1.0, forget_fence: 1.0},
    {evict: 2.0, day: 0.1, clear: 0.2},
    {cut: 1.0, late: 2.0, replace: 0.3},
    {kill: 1.0, late: 1.0, fill_up: 1.0},
    {cut: 1.0, forget_fence: 1.0, overflow: 0.3},
    {fill_up: 1.0, forget_fence: 1.0},
]


def mend(world: World) -> None:
    """Take a hindrance away; nodes that were away come back, sometimes without what they held."""
    client = world.random.choice(world.clients)
    client.cut.clear()
    world.full.clear()
    for name in sorted(world.dead):
        world.restart(name, world.random.choice([None, world.nodes[name].snapshot(), world.snapshots.get(name)]))
        world.dead.discard(name)
    for name in NODES:
        client.settle(name)


class History:
    """Play the history of one seed; ``StaleHit`` is raised where a promise was broken."""

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed)
        self.tasks: list[tuple[Client, Steps]] = []
        self.weights: list[float] = []
        self.answers = world.random.sample(list(ANSWERS), world.random.choice([1, 1, 1, 3]))
        self.rows = sorted({row for answer in self.answers for row in ANSWERS[answer]})
        self.faults: dict[Callable[[World], None], float] = {mend: 1.0, leap: 0.5}
        for theme in world.random.sample(THEMES, world.random.choice([1, 1, 1, 3])):
            self.faults |= theme
        self.trouble = world.random.choice([0.03, 0.06, 0.12])
        self.writers = world.random.choice([0.1, 0.2, 0.4])
        self.burst = world.random.choice([1, 6, 20])
        self.pace = world.random.choice([0.002, 0.01, 0.05])
        world.loss = world.random.choice([0.0, 0.0, 0.05, 0.15])
        world.raises = world.random.random() < 0.5
        world.is_bounded = world.random.random() < 0.15

    def play(self, length: int = LENGTH) -> World:
        """Play to the end and return the world as it is then."""
        for _ in range(length):
            self._advance()
        self.hits = self.world.hits
        if self.world.random.random() < 0.3:
            self._come_to_rest()
        return self.world

    def _advance(self) -> None:
        world = self.world
        world.now += world.random.expovariate(1 / self.pace)
        if world.random.random() < 0.03:
            name = node_of(world)
            world.snapshots[name] = world.nodes[name].snapshot()
        if world.random.random() < self.trouble:
            (fault,) = world.random.choices(list(self.faults), list(self.faults.values()))
            fault(world)
            self._bury()
        elif len(self.tasks) < 2 or (len(self.tasks) < 5 and world.random.random() < 0.1):
            self._spawn()
        else:
            (index,) = world.random.choices(range(len(self.tasks)), self.weights)
            for _ in range(world.random.randint(1, self.burst) if self.weights[index] == 1.0 else 1):
                if not self._step(index):
                    break

    def _bury(self) -> None:
        """Forget the tasks of processes that are no more."""
        for index in reversed(range(len(self.tasks))):
            if self.tasks[index][0] not in self.world.clients:
                del self.tasks[index], self.weights[index]

    def _spawn(self) -> None:
        """Begin something; some tasks are slow, so that much happens between two of their steps."""
        world = self.world
        client = world.random.choice(world.clients)
        answer = world.random.choice(self.answers)
        chance = world.random.random()
        if chance < self.writers:
            self.weights.append(world.random.choice([0.03, 0.1, 1.0]))
            rows = world.random.sample(self.rows, world.random.randint(1, len(self.rows)))
            self.tasks.append((client, Write(world, client, rows).run()))
            return
        self.weights.append(world.random.choice([0.1, 1.0, 1.0]))
        if chance < self.writers + 0.08:
            self.tasks.append((client, record(world, client, answer)))
        else:
            self.tasks.append((client, read(world, client, answer)))

    def _step(self, index: int) -> bool:
        """Let a task make one step; return whether it goes on."""
        try:
            next(self.tasks[index][1])
        except StopIteration:
            del self.tasks[index], self.weights[index]
            return False
        return True

    def _come_to_rest(self) -> None:
        """End all faults and tasks; then every answer is right, and the cache answers again."""
        world = self.world
        world.loss = 0.0
        while self.tasks:
            self._step(0)
        world.late.clear()
        world.clients[0].cut.clear()
        for client in world.clients:
            client.cut.clear()
            world.full.clear()
            for name in sorted(world.dead):
                world.dead.discard(name)
                world.restart(name, world.nodes[name].snapshot())
            for name in NODES:
                client.settle(name)
        for client in world.clients:  # who learns of a new incarnation now has its quarantine before it
            for answer in ANSWERS:
                finished(read(world, client, answer))
            world.now += 1.5 * MARK_LIFE
        self._check_liveness()

    def _check_liveness(self) -> None:
        world = self.world
        for client in world.clients:
            for answer in ANSWERS:
                hits = world.hits
                for _ in range(5):  # who is killed while it loads leaves its lease
                    world.now += 3.1
                    finished(read(world, client, answer))
                    finished(read(world, client, answer))
                    if world.hits > hits:
                        break
                assert world.hits > hits, f"{answer} is not cached any more for {client.name}"


def finished(steps: Steps) -> None:
    """Run one task to its end, alone."""
    with suppress(StopIteration):
        while True:
            next(steps)


def play(seed: int, length: int = LENGTH) -> World:
    """Play the history of a seed."""
    return History(seed).play(length)
