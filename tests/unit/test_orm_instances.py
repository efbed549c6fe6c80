"""Instances that are made the short way are those that Django makes; where a class says more, it is asked."""

from typing import Any

import pytest
from django.db import models
from django.db.models import QuerySet
from django.db.models.base import ModelBase
from django.test.utils import isolate_apps

from distcache_django.orm.instances import instances

ROW = (7, "seven", 3)


class Init:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        vars(self)["noted"] = "init"


class LateInit:
    def __init__(self) -> None:
        vars(self)["noted"] = "late init"


class New:
    def __new__(cls, *_: Any, **__: Any) -> Any:
        made = super().__new__(cls)
        vars(made)["noted"] = "new"
        return made


class Setting:
    def __setattr__(self, name: str, value: Any) -> None:
        vars(self)[name] = value if name.startswith("_") else f"set {value}"


class FromDb:
    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().from_db(*args, **kwargs)  # type: ignore[misc]  # a model's
        made.noted = "from_db"
        return made


class Property:
    """Be what a field has put in the place of its column."""

    def __init__(self, field: Any) -> None:
        self.field = field

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)["name"] = f"kept {value}"

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else vars(instance)["name"]


class CallMeta(ModelBase):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        vars(made)["noted"] = "called"
        return made


class OwnField(models.CharField):
    descriptor_class = Property


def model_of(*before: type, behind: type | None = None, meta: type = ModelBase, field: Any = models.CharField) -> Any:
    """Return a model with mixins before and behind ``Model`` among its bases."""
    bases = (*before, models.Model, *([] if behind is None else [behind]))
    with isolate_apps("tests"):
        space = {
            "__module__": __name__,
            "name": field(max_length=9),
            "other": models.ForeignKey("self", models.CASCADE, null=True),
            "Meta": type("Meta", (), {"app_label": "tests"}),
        }
        return meta("Thing", bases, space)


ATTNAMES = ("id", "name", "other_id")


def seen(instance: Any) -> tuple[Any, ...]:
    state = {name: value for name, value in vars(instance._state).items() if name != "fields_cache" or value}
    return type(instance), [(name, value) for name, value in vars(instance).items() if name != "_state"], state


def by_django(queryset: Any) -> Any:
    mode = getattr(queryset, "_fetch_mode", None)
    return queryset.model.from_db("default", ATTNAMES, ROW, **({} if mode is None else {"fetch_mode": mode}))


@pytest.mark.parametrize(
    "model",
    [
        model_of(),
        model_of(Init),
        model_of(New),
        model_of(Setting),
        model_of(FromDb),
        model_of(behind=LateInit),
        model_of(meta=CallMeta),
        model_of(field=OwnField),
    ],
    ids=["plain", "init", "new", "setattr", "from_db", "init behind", "metaclass", "descriptor"],
)
def test_an_instance_is_the_one_that_django_makes(model: Any) -> None:
    queryset: QuerySet[Any] = QuerySet(model)

    for values in (ROW, list(ROW)):
        (made,) = instances(queryset, "default", ATTNAMES, [values])

        assert seen(made) == seen(by_django(queryset))
        assert made.name.endswith("seven")


def test_instances_do_not_share_their_state() -> None:
    one, other = instances(QuerySet(model_of()), "default", ATTNAMES, [ROW, ROW])
    one.name, one._state.db = "mine", "replica"

    assert (other.name, other._state.db) == ("seven", "default")
    assert one._state.fields_cache is not other._state.fields_cache


def test_a_row_of_other_columns_makes_no_instance() -> None:
    with pytest.raises(ValueError, match="zip"):
        instances(QuerySet(model_of()), "default", ATTNAMES, [ROW[:2]])
