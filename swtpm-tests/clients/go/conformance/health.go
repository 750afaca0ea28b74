package main

import (
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

var health = []named{
	{"the local socket says that the server serves", func(s *server) {
		client := healthv1.NewHealthClient(s.local)
		checked := the(client.Check(s.ctx, &healthv1.HealthCheckRequest{}))
		equal("status", checked.Status, healthv1.HealthCheckResponse_SERVING)
		watch := the(client.Watch(s.ctx, &healthv1.HealthCheckRequest{}))
		equal("watched status", the(watch.Recv()).Status, healthv1.HealthCheckResponse_SERVING)
		listed := the(client.List(s.ctx, &healthv1.HealthListRequest{}))
		equal("listed status", listed.Statuses[""].GetStatus(), healthv1.HealthCheckResponse_SERVING)
	}},
	{"a service that is none is not found", func(s *server) {
		_, err := healthv1.NewHealthClient(s.local).Check(s.ctx, &healthv1.HealthCheckRequest{Service: "nothing"})
		refused(err, codes.NotFound, "unknown service")
	}},
	{"there is no health service over TCP", func(s *server) {
		_, err := healthv1.NewHealthClient(s.dial(nil)).Check(s.ctx, &healthv1.HealthCheckRequest{})
		refused(err, codes.Unimplemented)
		_, err = healthv1.NewHealthClient(s.dial(s.mint("/boss"))).Check(s.ctx, &healthv1.HealthCheckRequest{})
		refused(err, codes.Unimplemented)
	}},
}
