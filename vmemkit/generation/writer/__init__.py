"""Writer: the generator that writes the scene as a plan and renders it.

In: context views with depth, target cameras. Out: target views with depth, and the facts they show.
`perception.py` reads facts from views (`evidence.py`, `walls.py`, `lamps.py`, `doors.py`, `looks.py`,
`things.py`), `facts.py` joins them and turns them into codes, `completion.py` draws the rest, and
`writer.py` renders it. `contents.py` says which facts a rendered view shows.
Photographs of rooms have perception of their own (`photographs.py`), and `tiles.py` continues their
surfaces (`quilting.py`). Where the views show no room, `Warp` continues them.
"""
