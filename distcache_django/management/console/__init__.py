"""The sub-commands of ``manage.py distcache``, one module each."""
