"""Your arrays and your task: train on what a thermostat did, go on in the task, and watch with a callback.

python own_data.py      # from this folder; about half a minute
"""

import gymnasium as gym
import heater  # noqa: F401  registers the task
import numpy as np

import balrl


def thermostat(days: int) -> dict[str, np.ndarray]:
    """What an old thermostat did: full power below 19 °C, none above, and sometimes anything."""
    env, rng = gym.make("Heater-v0"), np.random.default_rng(0)
    rows = {key: [] for key in ("observations", "actions", "rewards", "terminals", "timeouts")}
    for day in range(days):
        observation, _ = env.reset(seed=day)
        truncated = False
        while not truncated:
            power = rng.uniform(0, 3) if rng.random() < 0.3 else 3.0 * (observation["temperatures"][0] < 19.0)
            action = np.array([power], np.float32)
            rows["observations"].append(np.concatenate([observation[key] for key in env.observation_space]))
            observation, reward, terminated, truncated, _ = env.step(action)
            for key, value in (
                ("actions", action),
                ("rewards", reward),
                ("terminals", terminated),
                ("timeouts", truncated),
            ):
                rows[key].append(value)
    return {key: np.array(values) for key, values in rows.items()}


class Warm(balrl.Callback):
    """Says how warm it gets, and stops the run when that is good enough."""

    def on_evaluation(self, status: balrl.Status, evaluation: dict) -> bool:
        print(f"{status.phase} {status.step:,}: return {evaluation['return_mean']:.0f}")
        return evaluation["return_mean"] < -40  # False: stop


if __name__ == "__main__":
    data = balrl.Dataset.from_arrays(thermostat(days=60), name="thermostat", env_id="Heater-v0")
    print(data)
    config = balrl.load_config(
        "iql/locomotion",
        settings={
            "pretrain.updates": 600,
            "pretrain.eval_every": 300,
            "warmup.steps": 96,
            "finetune.steps": 480,
            "finetune.eval_every": 240,
            "agent.hidden": [64, 64],
            "agent.discount": 0.95,
            "batch_size": 128,
            "data.normalize_observations": True,
            "tracking.wandb": "off",
        },
    )
    result = balrl.train(config, "runs/heater", dataset=data, env=lambda: gym.make("Heater-v0"), callbacks=[Warm])
    print(balrl.evaluate("runs/heater", "Heater-v0", episodes=20).success_rate)
