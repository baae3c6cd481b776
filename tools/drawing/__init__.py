"""What `python -m tools.draw_text` draws with: fonts, texts and styles."""
