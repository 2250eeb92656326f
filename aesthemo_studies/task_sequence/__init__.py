"""A BiLSTM over tasks (CN109190514B), lesson 09."""
