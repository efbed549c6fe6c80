"""What every test may use: the fixtures the package ships for its users' suites."""

pytest_plugins = ["distcache_django.testing.plugin"]
