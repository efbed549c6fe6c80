"""The shop in the admin."""

from typing import TYPE_CHECKING

from django.contrib import admin

from example_project.shop.models import Brand, Category, Customer, Inventory, Order, OrderLine, Price, Product

if TYPE_CHECKING:
    ShelfBase = admin.ModelAdmin[Category | Brand]
    ProductBase = admin.ModelAdmin[Product]
    CustomerBase = admin.ModelAdmin[Customer]
    OrderBase = admin.ModelAdmin[Order]
    PriceInlineBase = admin.TabularInline[Price, Product]
    InventoryInlineBase = admin.StackedInline[Inventory, Product]
    LineInlineBase = admin.TabularInline[OrderLine, Order]
else:
    ShelfBase = ProductBase = CustomerBase = OrderBase = admin.ModelAdmin
    PriceInlineBase = LineInlineBase = admin.TabularInline
    InventoryInlineBase = admin.StackedInline


@admin.register(Category, Brand)
class ShelfAdmin(ShelfBase):
    """Categories and brands."""

    search_fields = ["name"]


class PriceInline(PriceInlineBase):
    """A product's prices; the revision counts by itself."""

    model = Price
    extra = 0
    readonly_fields = ["revision"]


class InventoryInline(InventoryInlineBase):
    """A product's stock; the revision counts by itself."""

    model = Inventory
    readonly_fields = ["revision"]


@admin.register(Product)
class ProductAdmin(ProductBase):
    """Products with their prices and stock."""

    list_display = ["name", "sku", "category", "brand"]
    list_select_related = ["category", "brand"]
    search_fields = ["name", "sku"]
    autocomplete_fields = ["category", "brand"]
    inlines = [PriceInline, InventoryInline]


@admin.register(Customer)
class CustomerAdmin(CustomerBase):
    """Customers."""

    list_display = ["name", "email", "city", "joined"]
    search_fields = ["name", "email"]


class LineInline(LineInlineBase):
    """An order's lines."""

    model = OrderLine
    extra = 0
    raw_id_fields = ["product"]


@admin.register(Order)
class OrderAdmin(OrderBase):
    """Orders with their lines."""

    list_display = ["id", "customer", "placed", "status", "total"]
    list_select_related = ["customer"]
    list_filter = ["status"]
    autocomplete_fields = ["customer"]
    inlines = [LineInline]
