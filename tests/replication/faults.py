"""What goes wrong: one thing or several, within what P2 promises to survive.

At most ``write - 1`` nodes lose their memories between two times at which all vote and miss nothing. Where all is lost
at once, the history says so to those who judge it.
"""

from collections.abc import Callable
from typing import Any

from tests.replication.process import Process
from tests.replication.world import Machine, World

Fault = Callable[[Any], None]


def machine_of(world: World) -> Machine:
    return world.machines[world.random.choice(list(world.machines))]


def process_of(world: World) -> Process:
    processes: list[Process] = [process for process in world.processes if not process.is_dead]
    return world.random.choice(processes)


# ---------------------------------------------------------------- nodes that are away


def pause(history: Any) -> None:
    """Stop a node; what is sent to it waits in its buffers."""
    world, machine = history.world, machine_of(history.world)
    if machine.is_well:
        world.note("pause of", machine.name)
        machine.is_paused = True
        world.at(world.random.choice((0.05, 0.3, 0.6, 1.5)) * (0.5 + world.random.random()), unpause, world, machine)


def unpause(world: World, machine: Machine) -> None:
    if machine.is_paused:
        world.note("resume of", machine.name)
        machine.resume()


def cut(history: Any) -> None:
    """Part one process from one node, or some from some."""
    world = history.world
    if world.random.random() < 0.6:
        chosen = [(process_of(world), machine_of(world).name)]
    else:
        names = world.random.sample(list(world.machines), world.random.choice((1, 1, 2)))
        processes = [process for process in world.processes if world.random.random() < 0.6]
        chosen = [(process, name) for process in processes for name in names]
    world.note("cut", [f"{process.name}-{name}" for process, name in chosen])
    world.cuts.update(chosen)
    world.at(world.random.choice((0.1, 0.4, 1.5)) * (0.5 + world.random.random()), world.mend_cuts, chosen)


def mishaps(history: Any) -> None:
    """Lose, delay and repeat requests for some time."""
    world = history.world
    world.loss = world.random.choice((0.03, 0.1, 0.25))
    world.at(world.random.choice((0.1, 0.5)), calm, world)


def calm(world: World) -> None:
    world.loss = 0.0


def slow(history: Any) -> None:
    """Let messages take long, some of them."""
    world = history.world
    world.delays = (*history.delays, *world.random.choice([(0.02,), (0.05, 0.005), (0.15,)]))
    world.at(world.random.choice((0.2, 0.6)), quicken, world, history.delays)


def quicken(world: World, delays: tuple[float, ...]) -> None:
    world.delays = delays


# ---------------------------------------------------------------- memory


def crash(history: Any) -> None:
    """Kill a node; it comes back with nothing, with all it had, or with what it had saved."""
    world, machine = history.world, machine_of(history.world)
    if machine.is_dead or not world.take_memory():
        return
    memory = world.random.choice((None, machine.node.snapshot(), machine.snapshot))
    world.note("crash of", machine.name, "keeps", "nothing" if memory is None else "what it had")
    machine.die()
    world.at(
        world.random.choice((0.0, 0.02, 0.3, 1.0)) * (0.5 + world.random.random()), restart, world, machine, memory
    )


def restart(world: World, machine: Machine, memory: Any) -> None:
    if machine.is_dead:
        world.note("restart of", machine.name)
        machine.restart(memory)


def save(history: Any) -> None:
    """Write a snapshot, to which a node may go back."""
    machine = machine_of(history.world)
    if not machine.is_dead:
        machine.snapshot = machine.node.snapshot()


def flush(history: Any) -> None:
    world, machine = history.world, machine_of(history.world)
    if not machine.is_dead and world.take_memory():
        world.note("FLUSHALL at", machine.name)
        machine.node.clear()


def flush_after_write(history: Any) -> None:
    """Empty the next node that stores something, right after that, and maybe part its author from another one."""
    history.world.trap = spring


def spring(world: World, process: Any, machine: Machine) -> None:
    """Let the trap close, if the node may lose its memory."""
    if not world.take_memory():
        return
    world.trap = None
    world.note("FLUSHALL at", machine.name, "after a write")
    machine.node.clear()
    if world.random.random() < 0.6:
        other = machine_of(world).name
        world.cuts.add((process, other))
        world.at(world.random.random(), world.mend_cuts, [(process, other)])


def siege(history: Any) -> None:
    """Part the clients from one node, then empty a second one, and part those that repair from the third."""
    world = history.world
    away, emptied, hidden = (world.machines[name] for name in (world.random.sample(list(world.machines), 3)))
    clients = [(process, away.name) for process in world.processes if not process.is_agent]
    world.note("siege:", away.name, "is away,", emptied.name, "will be emptied,", hidden.name, "hidden")
    world.cuts.update(clients)
    world.at(0.05 + world.random.random() / 4, besiege, world, emptied, hidden)
    world.at(0.1 + world.random.random() / 4, world.mend_cuts, clients)


def besiege(world: World, emptied: Machine, hidden: Machine) -> None:
    if emptied.is_dead or not world.take_memory():
        return
    world.note("FLUSHALL at", emptied.name, "in a siege")
    emptied.node.clear()
    agents = [(process, hidden.name) for process in world.processes if process.is_agent]
    world.cuts.update(agents)
    world.at(0.5 + world.random.random(), world.mend_cuts, agents)


def forget_fence(history: Any) -> None:
    """Evict what says which incarnation a node is."""
    world, machine = history.world, machine_of(history.world)
    if not machine.is_dead and world.take_memory():
        key = world.random.choice(("dc:node", "dc:count"))
        world.note("evicted at", machine.name, key)
        machine.node.discard(key)


def evict(history: Any) -> None:
    """Evict a value at one node, in one history always the same: it is as if it had lost that memory."""
    world, machine = history.world, history.weak
    keys = [key for key in list(machine.node.keys()) if not key.startswith("dc:")]
    if keys and not machine.is_dead:
        key = world.random.choice(keys)
        world.note("evicted at", machine.name, key)
        machine.node.discard(key)


def lose_all(history: Any) -> None:
    """Restart all nodes, empty."""
    world = history.world
    world.note("all memory is lost")
    history.ledger.amnesties.append(world.now)
    for machine in world.machines.values():
        machine.die()
        machine.snapshot = None
        world.at(world.random.choice((0.0, 0.01, 0.3)) * (0.5 + world.random.random()), restart, world, machine, None)


# ---------------------------------------------------------------- processes


def stop_process(history: Any) -> None:
    world, process = history.world, process_of(history.world)
    process.paused_until = world.now + world.random.choice((0.05, 0.2, 0.5, 1.5)) * (0.5 + world.random.random())
    world.note(process.name, "is paused until", process.paused_until)


def kill_process(history: Any) -> None:
    process = process_of(history.world)
    history.world.note(process.name, "is killed")
    history.replace(process)


def set_node_clock(history: Any) -> None:
    """Set the clock of one node ahead, in one history always the same: there, keys end too early."""
    world = history.world
    history.weak.skew += world.random.choice((1.0, 5.0, 3600.0))
    world.note(history.weak.name, "has its clock off by", history.weak.skew)


#: What goes wrong together, and how often each.
AWAY: dict[Fault, float] = {pause: 2.0, cut: 2.0, stop_process: 0.5}
LOSSES: dict[Fault, float] = {crash: 3.0, save: 1.0, flush: 0.5, flush_after_write: 1.5, forget_fence: 0.5}
SIEGES: dict[Fault, float] = {siege: 2.0, crash: 0.5}
WEAK: dict[Fault, float] = {evict: 2.0, set_node_clock: 0.5}
NOISE: dict[Fault, float] = {mishaps: 1.5, slow: 1.0}
DEATHS: dict[Fault, float] = {kill_process: 1.0, stop_process: 1.0}
END: dict[Fault, float] = {lose_all: 0.3}

THEMES: list[dict[Fault, float]] = [
    {},
    AWAY,
    LOSSES,
    LOSSES | AWAY,
    SIEGES | AWAY,
    WEAK,
    WEAK | AWAY,
    NOISE | AWAY,
    NOISE | LOSSES,
    DEATHS | AWAY,
    DEATHS | LOSSES | NOISE,
    END | AWAY,
    AWAY | LOSSES | NOISE | DEATHS,
]
