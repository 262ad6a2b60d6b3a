"""Results to a terminal table, JSON, and one self-contained HTML page with pictures."""
