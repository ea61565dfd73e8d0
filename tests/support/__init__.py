"""The parts that tests share: clocks, fakes behind ports, servers on free ports."""
