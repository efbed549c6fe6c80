"""The shop's pages, by who asks: browsers of the catalogue, buyers, and programs."""
