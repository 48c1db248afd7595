"""A person's own end: me.toml, the notebook of what waits and what was sent, the talks with agents and stores."""
