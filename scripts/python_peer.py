"""An agent and a proxy with grpcio, written from proto/agent_v2.proto alone.

`agent` prints its endpoint and serves. `proxy ENDPOINT` calls an agent and prints its answers.
`scripts/python-peers` creates the environment.
"""

import json
import queue
import sys
from concurrent import futures
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "target" / "python-peers"))

import agent_v2_pb2 as pb
import agent_v2_pb2_grpc as rpc
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


class Agent(rpc.AgentServiceV2Servicer):
    def ProcessStream(self, requests, context):
        for message in requests:
            yield self.answer(message)

    def ProcessEvent(self, message, context):
        return self.answer(message)

    def answer(self, message):
        kind = message.WhichOneof("message")
        if kind == "handshake":
            capabilities = pb.AgentCapabilities(
                protocol_version=2, agent_id="python", name="Python", supported_events=[1, 2]
            )
            return pb.AgentToProxy(
                handshake=pb.HandshakeResponse(
                    protocol_version=2, success=True, capabilities=capabilities
                )
            )
        if kind == "ping":
            return pb.AgentToProxy(pong=pb.Pong(sequence=message.ping.sequence))
        event = getattr(message, kind)
        if kind == "request_headers":
            answer = pb.AgentResponse(correlation_id=event.metadata.correlation_id)
            answer.audit.custom["uri"] = json.dumps(event.uri)
            answer.audit.custom["tls_cipher"] = json.dumps(event.metadata.tls_cipher)
            if event.uri.startswith("/block"):
                answer.block.status = 403
                answer.block.body = "no"
            else:
                answer.allow.SetInParent()
            return pb.AgentToProxy(response=answer)
        answer = pb.AgentResponse(correlation_id=event.correlation_id, allow=pb.AllowDecision())
        if kind == "request_body_chunk":
            answer.request_body_mutation.data = event.data
            answer.request_body_mutation.chunk_index = event.chunk_index
        return pb.AgentToProxy(response=answer)


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    rpc.add_AgentServiceV2Servicer_to_server(Agent(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"grpc://127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


def request_headers(uri):
    metadata = pb.RequestMetadata(correlation_id=uri, request_id="r", protocol="HTTP/1.1")
    headers = [pb.Header(name="host", value="example.com")]
    return pb.ProxyToAgent(
        request_headers=pb.RequestHeadersEvent(
            metadata=metadata, method="GET", uri=uri, headers=headers
        )
    )


def decision(answer):
    kind = answer.response.WhichOneof("decision")
    if kind == "block":
        return {"status": answer.response.block.status}
    return kind


def call(endpoint):
    channel = grpc.insecure_channel(endpoint.removeprefix("grpc://"))
    stub = rpc.AgentServiceV2Stub(channel)
    sent = queue.SimpleQueue()
    answers = stub.ProcessStream(iter(sent.get, None), timeout=10)

    def exchange(message):
        sent.put(message)
        return next(answers)

    handshake = exchange(
        pb.ProxyToAgent(handshake=pb.HandshakeRequest(supported_versions=[2], proxy_id="python"))
    )
    result = {
        "agent_id": handshake.handshake.capabilities.agent_id,
        "allow": decision(exchange(request_headers("/"))),
        "block": decision(exchange(request_headers("/block-bare"))),
        "pong": exchange(pb.ProxyToAgent(ping=pb.Ping(sequence=7))).pong.sequence,
        "unary": decision(stub.ProcessEvent(request_headers("/block-bare"), timeout=10)),
    }
    sent.put(None)
    check = health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service="zentinel.agent.v2.AgentServiceV2"), timeout=10
    )
    result["health"] = health_pb2.HealthCheckResponse.ServingStatus.Name(check.status)
    result["services"] = services(channel)
    print(json.dumps(result))


def services(channel):
    """Lists the services with version 1 of reflection, which has the messages of v1alpha."""
    from grpc_reflection.v1alpha import reflection_pb2

    call = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(call(iter([request]), timeout=10))
    return sorted(service.name for service in answer.list_services_response.service)


if __name__ == "__main__":
    if sys.argv[1] == "agent":
        serve()
    else:
        call(sys.argv[2])
