"""Set aside: combinations that keep failing where no breaker sees it, left out of plans for a growing time.

`combinations` says of what a call is an instance, `patterns` decides from failures in a row, `suspicion` holds what
words alone have said until unrelated requests agree, and `set_aside` tells planning and operators. Each router learns
by itself. After the time one call tries; an answer ends it, a failure makes it longer.
"""
