# The image of web, worker and beat in docker-compose.yml: the package and the example project.
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --create-home --uid 1000 shop
WORKDIR /srv/shop

COPY pyproject.toml README.md LICENSE ./
COPY distcache_django ./distcache_django
RUN pip install ".[celery,cli]" "psycopg[binary]>=3.2,<4" "gunicorn>=23" "uvicorn>=0.34,<1"

COPY manage.py ./
COPY example_project ./example_project

USER shop
EXPOSE 8000
CMD ["gunicorn", "example_project.wsgi:application", "--bind", "0.0.0.0:8000", "--workers", "3"]
