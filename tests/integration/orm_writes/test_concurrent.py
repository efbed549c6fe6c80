"""Writers that do not lock: whatever the others did meanwhile, each reports the groups that its rows left and joined.

A trigger of the database says what each statement really did. Every writer looks, after each of its writes, whether
all of that was told to the nodes in its name: the mutant "old value taken from the instance" is not.
"""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any

import pytest
from django.db import DatabaseError, ProgrammingError, connection, transaction
from django.db.models import F

from distcache_django.freshness import service as services
from distcache_django.freshness.dependencies import coarse, field, row
from distcache_django.freshness.service import Attempt
from tests.integration.transactions.ground import POSTGRES, Recorder, in_thread
from tests.support.zoo.models import Category, Product

SECONDS = 1.0
ENOUGH = 50
PRODUCTS = range(100, 108)
GROUPS = range(1, 7)
_AUDIT = """
CREATE TABLE audit (n bigserial PRIMARY KEY, pid integer, id bigint, old_group bigint, new_group bigint);
CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO audit (pid, id, old_group, new_group)
        VALUES (pg_backend_pid(), COALESCE(NEW.id, OLD.id), OLD.category_id, NEW.category_id);
    RETURN NULL;
END $$;
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON zoo_product FOR EACH ROW EXECUTE FUNCTION audited();
"""


class ByThread(Recorder):
    """Keep apart what each thread has told."""

    def __init__(self) -> None:
        super().__init__()
        self.of_thread: dict[int, set[str]] = defaultdict(set)

    def bump(self, dependencies: Collection[str], attempt: Attempt | None = None) -> None:
        assert attempt is not None
        assert set(dependencies) <= set(attempt.dependencies)
        self.of_thread[threading.get_ident()] |= set(dependencies)

    def take_own(self) -> set[str]:
        return self.of_thread.pop(threading.get_ident(), set())


class Writer:
    """Move rows among groups, at random, by instances that it read some time ago."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.instances = list(Product.objects.filter(pk__in=PRODUCTS))

    def save_a_stale_instance(self) -> None:
        instance = self.random.choice(self.instances)
        instance.category_id = self.random.choice(GROUPS)
        instance.save(**({} if self.random.random() < 0.5 else {"update_fields": ["category"]}))

    def save_another_field(self) -> None:
        self.random.choice(self.instances).save(update_fields=["price"])

    def move_a_group(self) -> None:
        Product.objects.filter(category=self.random.choice(GROUPS)).update(category=self.random.choice(GROUPS))

    def move_by_an_expression(self) -> None:
        keys = self.random.sample(PRODUCTS, 3)
        Product.objects.filter(pk__in=sorted(keys), category__lt=max(GROUPS)).update(category=F("category") + 1)

    def move_across_a_join(self) -> None:
        old, new = self.random.choice(GROUPS), self.random.choice(GROUPS)
        Product.objects.filter(category__name=f"group {old}").update(category=new)

    def delete_and_create(self) -> None:
        key = self.random.choice(PRODUCTS)
        Product.objects.filter(pk=key).delete()
        Product(id=key, name="again", category_id=self.random.choice(GROUPS)).save()

    def several_in_a_transaction(self) -> None:
        with transaction.atomic():
            self.save_a_stale_instance()
            self.save_another_field()

    def act(self) -> None:
        acts: list[Callable[[], None]] = [
            self.save_a_stale_instance,
            self.save_another_field,
            self.move_a_group,
            self.move_by_an_expression,
            self.move_across_a_join,
            self.delete_and_create,
            self.several_in_a_transaction,
        ]
        self.random.choice(acts)()


def unreported(told: set[str], audit: list[tuple[Any, ...]]) -> list[str]:
    """Return what was done and not told."""
    if coarse({"zoo_product"}) <= told:
        return []
    wanted = {"zoo_product"} if audit else set()
    for key, old, new in audit:
        wanted.add(row("zoo_product", str(key)))
        wanted |= {field("zoo_product", "category_id", str(group)) for group in (old, new) if group is not None}
    return sorted(wanted - told)


def take_audit() -> list[tuple[Any, ...]]:
    """Return what this connection's statements did since the last look."""
    raw: Any = connection.connection
    with raw.cursor() as cursor:
        cursor.execute("DELETE FROM audit WHERE pid = pg_backend_pid() RETURNING id, old_group, new_group")
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def write_for_a_while(recorder: ByThread, seed: int) -> tuple[int, int, list[str]]:
    """Return how many writes and moved rows there were, and what was not told of them."""
    writer, writes, moves = Writer(seed), 0, 0
    begun = time.monotonic()
    while time.monotonic() < begun + SECONDS or min(writes, moves) < ENOUGH:
        recorder.take_own()
        take_audit()
        refused = None
        try:
            writer.act()
        except DatabaseError as error:
            refused = error
        # A row that the other has deleted, or made; rows that each other's statement locks in its own order.
        assert refused is None or not isinstance(refused, ProgrammingError), refused
        writes += 1
        audit = take_audit()
        moves += sum(old != new for _, old, new in audit)
        if missing := unreported(recorder.take_own(), audit):
            return writes, moves, missing
    return writes, moves, []


POSTGRES_17 = pytest.param("postgresql-17", marks=pytest.mark.postgres)
LOCKING = pytest.param("locking", marks=pytest.mark.postgres)


@pytest.mark.parametrize("database", [POSTGRES, POSTGRES_17, LOCKING], indirect=True)
def test_two_writers_that_do_not_lock_report_every_group_mutant_old_value_taken_from_the_instance(
    database: str, rows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Category.objects.bulk_create([Category(id=n, name=f"group {n}") for n in GROUPS if n > 3])
    Product.objects.bulk_create([Product(id=n, name=f"p{n}", category_id=1) for n in PRODUCTS])
    with connection.cursor() as cursor:
        cursor.execute(_AUDIT)
    recorder = ByThread()
    monkeypatch.setattr(services, "_service", recorder)
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - to run it again

    with (
        in_thread(lambda: write_for_a_while(recorder, seed)) as one,
        in_thread(lambda: write_for_a_while(recorder, seed + 1)) as two,
    ):
        done = [one.result(60), two.result(60)]

    assert [missing for _, _, missing in done] == [[], []]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_writers_on_sqlite_wait_for_each_other(database: str, rows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that reads and then writes is refused at once where another one wrote in between."""
    monkeypatch.setattr(services, "_service", Recorder())

    def write() -> int:
        for number in range(60):
            Product.objects.filter(pk=1).update(category=1 + number % 3)
            Product.objects.filter(category=2).update(category=3)
        return 60

    with in_thread(write) as one, in_thread(write) as two:
        assert one.result(60) == two.result(60) == 60
