"""The majors-alts book: which alts are sold, and the quadratic programme that makes the book neutral."""
