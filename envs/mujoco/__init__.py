"""MuJoCo tasks in N worlds, simulated by MuJoCo Warp."""
