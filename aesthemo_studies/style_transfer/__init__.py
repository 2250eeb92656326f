"""Style transfer before classification (CN111753908A), lesson 12."""
