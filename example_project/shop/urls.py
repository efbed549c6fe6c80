"""The shop's addresses."""

from django.urls import path

from example_project.shop.views import api, catalogue, purchase

app_name = "shop"

urlpatterns = [
    path("", catalogue.home, name="home"),
    path("categories/<int:pk>/", catalogue.category, name="category"),
    path("brands/<int:pk>/", catalogue.brand, name="brand"),
    path("search/", catalogue.search, name="search"),
    path("products/<int:pk>/", catalogue.product, name="product"),
    path("products/<int:pk>/prices/", catalogue.prices, name="prices"),
    path("customers/<int:pk>/", purchase.customer, name="customer"),
    path("cart/", purchase.cart, name="cart"),
    path("cart/add/<int:pk>/", purchase.add_to_cart, name="add-to-cart"),
    path("cart/checkout/<int:customer_id>/", purchase.checkout, name="checkout"),
    path("api/products/<int:pk>/", api.card, name="card"),
    path("api/products/<int:pk>/stock/", api.stock, name="stock"),
    path("api/products/<int:pk>/prices/<int:position>/", api.availability, name="availability"),
    path("api/products/<int:pk>/prices/<int:position>/change/", api.change_price, name="change-price"),
    path("api/compare/", api.compare, name="compare"),
]
