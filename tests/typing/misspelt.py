"""What a type checker must refuse: every statement after a line with "refused" is an error."""

from fastroute import Controller, Endpoint, create_router

client = Controller(["mf"], strong_model="big", weak_model="small")
messages = [{"role": "user", "content": "hi"}]

# refused: a misspelt method
client.chat.completions.craete(model="gpt", messages=messages)
# refused: a misspelt room
client.chat.completion.create(model="gpt", messages=messages)
# refused: a misspelt argument
client.chat.completions.create(model="gpt", messages=messages, temprature=0.5)
# refused: a misspelt argument of an async call
client.chat.completions.acreate(model="gpt", messages=messages, steam=True)
# refused: a misspelt argument of a stream
client.completion(model="gpt", messages=messages, stream=True, max_token=3)
# refused: an argument of another type
client.chat.completions.create(model="gpt", messages=messages, temperature="hot")
# refused: a model that is no string
client.chat.completions.create(model=3, messages=messages)
# refused: one message
client.chat.completions.create(model="gpt", messages="hi")
# refused: no messages
client.chat.completions.create(model="gpt")
# refused: a stream that is no flag
client.chat.completions.create(model="gpt", messages=messages, stream="yes")
# refused: a misspelt decision
client.decides("hi", "mf", 0.5)
# refused: a threshold that is text
client.decide("hi", "mf", "0.5")
# refused: a misspelt field of a decision
print(client.decide("hi", "mf", 0.5).winrate)
# refused: a misspelt field of a router
print(client.routers["mf"].calibration)
# refused: a provenance that is assigned from outside
client.routers["mf"].provenance = client.routers["mf"].provenance
# refused: a misspelt argument of an endpoint
Endpoint(base="http://a/v1")
# refused: a name that is no string
create_router(3)
