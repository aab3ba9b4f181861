"""Array tools shared by the stages.

Dense (days x assets) panels, and windowed sums that do not depend on where the loaded range starts.
"""
