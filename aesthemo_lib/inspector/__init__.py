"""See what each branch borrows, photo by photo: in a notebook, in the browser, or as one page."""
