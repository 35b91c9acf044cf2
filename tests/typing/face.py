"""What a type checker must see of the public face: each line states the type that is revealed."""

from collections import Counter, defaultdict
from typing import Any, reveal_type

from fastroute import Controller, Decision, Endpoint, create_router
from fastroute.candidates import Candidate, SpendAtMost, read_price_list
from fastroute.learning import Goal, read_export, save_result, tune_router
from fastroute.many_models import CandidateDecider
from fastroute.policy import DecisionBatch
from fastroute.provenance import Provenance
from fastroute.routers import MatrixFactorizationRouter, Router
from fastroute.share_control import HeldShare
from fastroute.types import ModelPair

client = Controller(["mf"], strong_model="big", weak_model="small", api_base="http://a/v1")
messages = [{"role": "user", "content": "hi"}]

reveal_type(client.decide("hi", router="mf", threshold=0.5))  # Decision
reveal_type(client.decide("hi", "mf", 0.5).win_rate)  # float
reveal_type(client.decide("hi").difficulty)  # float | None
reveal_type(client.decide("hi", strong_share=0.3))  # Decision
reveal_type(client.decide_batch(["hi"], "mf", 0.5))  # DecisionBatch
reveal_type(client.decide_batch(["hi"], strong_share=0.3).threshold)  # float
reveal_type(client.decide_batch(["hi"], "mf", 0.5)[0])  # Decision
reveal_type(client.decide_batch(["hi"], "mf", 0.5).models)  # list[str]
reveal_type(client.route("hi", "mf", 0.5))  # str
reveal_type(client.route("hi"))  # str
reveal_type(client.share_control)  # ShareControl | None
reveal_type(Controller(["mf"], "a", "b", held_share=HeldShare(0.3, step=0.01)))  # Controller
reveal_type(client.model_pair)  # ModelPair
reveal_type(client.model_counts)  # defaultdict[str, Counter[str]]
reveal_type(client.routers["mf"])  # Router
reveal_type(client.routers["mf"].provenance)  # Provenance
reveal_type(client.routers["mf"].provenance.checksum)  # str | None
reveal_type(client.routers["mf"].provenance.operating_point)  # OperatingPoint | None
reveal_type(create_router("mf"))  # Router
reveal_type(MatrixFactorizationRouter.load_default())  # MatrixFactorizationRouter
reveal_type(Endpoint().max_retries)  # int
reveal_type(Controller.load("router"))  # Controller
export = read_export("export.csv", weak="a", strong="b")
found = tune_router(export, Goal("quality", 0.95, 0.95))
reveal_type(found)  # TuneResult
reveal_type(found.quality_lower_bound)  # float | None
reveal_type(found.to_dict())  # dict[str, Any]
reveal_type(save_result(found, "router"))  # TuneResult

among = Controller(candidates=[Candidate("a"), Candidate("b")], policy="max_quality")
reveal_type(among.candidates)  # CandidateDecider | None
decider = CandidateDecider("models.toml", SpendAtMost(2.0), "router")
reveal_type(decider.decide("hi", explain=True))  # CandidateDecision
reveal_type(decider.decide("hi").candidates)  # tuple[CandidateView, ...]
reveal_type(decider.decide("hi").candidates[0].reason)  # str | None
reveal_type(decider.candidates.current)  # tuple[Candidate, ...]
reveal_type(SpendAtMost(2.0).state)  # SpendState
reveal_type(read_price_list("prices.json"))  # dict[str, Candidate]

create = client.chat.completions.create
reveal_type(create(model="gpt", messages=messages))  # ChatCompletion
reveal_type(create(model="gpt", messages=messages, stream=False))  # ChatCompletion
reveal_type(create(model="gpt", messages=messages, stream=None))  # ChatCompletion
reveal_type(create(model="gpt", messages=messages, stream=True))  # ChatStream
reveal_type(client.completion(messages=messages, router="mf", threshold=0.5))  # ChatCompletion
reveal_type(client.completion(messages=messages, router="mf", strong_share=0.3))  # ChatCompletion
reveal_type(client.completion(messages=messages, stream=True))  # ChatStream
reveal_type(next(create(messages=messages, stream=True)))  # Record
reveal_type(create(messages=messages).fastroute)  # Decision | None


def either(wanted: bool) -> None:
    reveal_type(create(messages=messages, stream=wanted))  # ChatCompletion | ChatStream


async def calls(wanted: bool) -> None:
    acreate = client.chat.completions.acreate
    reveal_type(await acreate(model="gpt", messages=messages))  # ChatCompletion
    reveal_type(await acreate(messages=messages, stream=True))  # AsyncChatStream
    reveal_type(await acreate(messages=messages, stream=wanted))  # ChatCompletion | AsyncChatStream
    reveal_type(await client.acompletion(messages=messages, temperature=0))  # ChatCompletion
    async for chunk in await acreate(messages=messages, stream=True):
        reveal_type(chunk)  # Record


def openai_types_are_taken() -> None:
    import openai
    from openai.types.chat import ChatCompletion as TheirCompletion
    from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

    typed: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
    tool: ChatCompletionToolParam = {
        "type": "function",
        "function": {"name": "f"},
    }
    answer: TheirCompletion = openai.OpenAI().chat.completions.create(model="gpt", messages=typed)
    create(
        model="router-mf-0.5",
        messages=[*typed, answer.choices[0].message],
        tools=[tool],
        tool_choice="auto",
        temperature=openai.NOT_GIVEN,
        max_tokens=openai.omit,
        stop=["a", "b"],
        response_format={"type": "json_object"},
        stream_options=None,
        extra_body={"top_k": 5},
        extra_headers={"X-Team": "a"},
        timeout=5,
    )


def names_are_used() -> tuple[Any, ...]:
    return Counter, defaultdict, Decision, DecisionBatch, ModelPair, Provenance, Router
