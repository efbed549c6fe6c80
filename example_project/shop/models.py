"""The shop's tables: a catalogue with several prices per product, stock, customers and their orders."""

from typing import Any

from django.db import models
from django.urls import reverse
from django.utils import timezone


class Revised(models.Model):
    """What counts its own changes in `revision`, so that a reader can tell old from new."""

    revision = models.PositiveIntegerField(default=1)

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save as the next revision."""
        if not self._state.adding:
            self.revision += 1
        super().save(*args, **kwargs)


class Category(models.Model):
    """A shelf of the shop."""

    name = models.CharField(max_length=80, unique=True)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("shop:category", args=[self.pk])


class Brand(models.Model):
    """Who makes a product."""

    name = models.CharField(max_length=80, unique=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("shop:brand", args=[self.pk])


class Product(models.Model):
    """What is sold."""

    name = models.CharField(max_length=120)
    sku = models.CharField("SKU", max_length=16, unique=True)
    description = models.TextField(blank=True)
    category = models.ForeignKey(Category, on_delete=models.PROTECT, related_name="products", db_index=False)
    brand = models.ForeignKey(Brand, on_delete=models.PROTECT, related_name="products", db_index=False)

    class Meta:
        ordering = ["name", "pk"]
        # A list page reads one shelf in the order it shows: the index answers both, and the foreign key too.
        indexes = [
            models.Index(fields=["category", "name", "id"], name="product_by_category"),
            models.Index(fields=["brand", "name", "id"], name="product_by_brand"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("shop:product", args=[self.pk])


class Price(Revised):
    """One of a product's prices."""

    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="prices", db_index=False)
    position = models.PositiveSmallIntegerField()
    label = models.CharField(max_length=40)
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    is_available = models.BooleanField(default=True)

    class Meta:
        ordering = ["product", "position"]
        constraints = [models.UniqueConstraint(fields=["product", "position"], name="price_position")]

    def __str__(self) -> str:
        return f"{self.label}: {self.amount}"


class Inventory(Revised):
    """How many pieces of a product are in stock."""

    product = models.OneToOneField(Product, on_delete=models.CASCADE, related_name="inventory", primary_key=True)
    quantity = models.IntegerField(default=0)
    shelf = models.CharField(max_length=16, blank=True)

    class Meta:
        verbose_name_plural = "inventory"

    def __str__(self) -> str:
        return f"{self.quantity} pieces"


class Customer(models.Model):
    """Who buys."""

    name = models.CharField(max_length=80)
    email = models.EmailField(unique=True)
    city = models.CharField(max_length=60)
    joined = models.DateField()

    class Meta:
        ordering = ["name", "pk"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("shop:customer", args=[self.pk])


class Order(models.Model):
    """What a customer bought at one time."""

    class Status(models.TextChoices):
        """Where an order is on its way."""

        PLACED = "placed"
        SENT = "sent"
        RETURNED = "returned"

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="orders", db_index=False)
    placed = models.DateTimeField(default=timezone.now)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PLACED)
    total = models.DecimalField(max_digits=12, decimal_places=2, default=0)

    class Meta:
        ordering = ["-placed", "-pk"]
        indexes = [models.Index(fields=["customer", "-placed"], name="order_by_customer")]

    def __str__(self) -> str:
        return f"Order {self.pk}"


class OrderLine(models.Model):
    """One product of an order, at the price of that day."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="+")
    quantity = models.PositiveIntegerField(default=1)
    unit_amount = models.DecimalField(max_digits=10, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.quantity} × {self.product_id}"
