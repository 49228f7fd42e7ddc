// Package pgquiver has clients of pgquiver: OpenAI's Vector Stores API on Postgres. The messages and the clients of the services are in
// package pgquiverv1, which protoc generates from the protos.
package pgquiver

import (
	"context"
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// Options say who calls.
type Options struct {
	// APIKey is sent with each call.
	APIKey string
	// Project is the key's own project, which the service then checks.
	Project string
	// TLS is the configuration of TLS; nil: cleartext.
	TLS *tls.Config
	// Dial has further options of gRPC.
	Dial []grpc.DialOption
}

// Connect opens a connection to HOST:PORT, for the clients of pgquiverv1. Nothing is sent before the first call.
func Connect(address string, options Options) (*grpc.ClientConn, error) {
	channel := insecure.NewCredentials()
	if options.TLS != nil {
		channel = credentials.NewTLS(options.TLS)
	}
	authorize := func(ctx context.Context) context.Context {
		if options.APIKey != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+options.APIKey)
		}
		if options.Project != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "openai-project", options.Project)
		}
		return ctx
	}
	return grpc.NewClient(address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(channel),
		// Pings notice a network that has become silent.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second}),
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker, calls ...grpc.CallOption) error {
			return invoke(authorize(ctx), method, request, reply, connection, calls...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, description *grpc.StreamDesc, connection *grpc.ClientConn, method string, open grpc.Streamer, calls ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(authorize(ctx), description, connection, method, calls...)
		}),
	}, options.Dial...)...)
}
