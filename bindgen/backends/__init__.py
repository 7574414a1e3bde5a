"""The backends, a module each: every one turns resolved interfaces into files of its language."""
