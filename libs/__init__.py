"""The code that two services share, and nothing else. A module enters when a second service needs it."""
