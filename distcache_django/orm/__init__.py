"""Cache what Django's ORM reads, and end cached answers when it writes."""
