"""Black-box methods: they propose cells and are told values."""
