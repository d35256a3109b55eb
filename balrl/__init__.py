"""balrl: from logged experience to a policy, and on to a better one online, without collapse."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from balrl.api import resume, resume_population, train, train_population
    from balrl.batch import Batch
    from balrl.data.dataset import Dataset
    from balrl.errors import EnvironmentFault, UserError
    from balrl.run.advice import advise
    from balrl.run.html_report import write_report
    from balrl.run.members import member_configs
    from balrl.run.presets import TrainConfig, load_config
    from balrl.run.registry import load_dataset, make_env
    from balrl.run.run_or_resume import run_or_resume, run_or_resume_together
    from balrl.run.start_and_resume import RunResult
    from balrl.run.trained import evaluate, evaluate_offline, family, load_agent, record_video
    from balrl.watch.callbacks import Callback, Status

__version__ = "0.1.0"
__all__ = [
    "Batch",
    "Callback",
    "Dataset",
    "EnvironmentFault",
    "RunResult",
    "Status",
    "TrainConfig",
    "UserError",
    "advise",
    "evaluate",
    "evaluate_offline",
    "family",
    "load_agent",
    "load_config",
    "load_dataset",
    "make_env",
    "member_configs",
    "record_video",
    "resume",
    "resume_population",
    "run_or_resume",
    "run_or_resume_together",
    "train",
    "train_population",
    "write_report",
]
_HOME = {
    "Batch": "batch",
    "Callback": "watch.callbacks",
    "Dataset": "data.dataset",
    "EnvironmentFault": "errors",
    "Status": "watch.callbacks",
    "UserError": "errors",
    "RunResult": "run.start_and_resume",
    "TrainConfig": "run.presets",
    "advise": "run.advice",
    "load_config": "run.presets",
    "load_dataset": "run.registry",
    "make_env": "run.registry",
    "member_configs": "run.members",
    "write_report": "run.html_report",
    **dict.fromkeys(("run_or_resume", "run_or_resume_together"), "run.run_or_resume"),
    **dict.fromkeys(("evaluate", "evaluate_offline", "family", "load_agent", "record_video"), "run.trained"),
}

_ROOT = Path(__file__).resolve().parent.parent
if not Path(__file__).with_name("agents").is_dir() and (_ROOT / "agents" / "iql.py").is_file():
    # A checkout whose symbolic links did not survive: agents, envs and configs stand beside this package.
    __path__.append(str(_ROOT))


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"balrl.{_HOME.get(name, 'api')}"), name)
    raise AttributeError(f"module 'balrl' has no attribute '{name}'; it has {__all__}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
