// Loads three rows into a new store: go run ./example 127.0.0.1:8000
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	pgquiver "github.com/pgquiver/pgquiver/clients/go"
	pb "github.com/pgquiver/pgquiver/clients/go/pgquiverv1"
)

func main() {
	ctx := context.Background()
	connection, err := pgquiver.Connect(os.Args[1], pgquiver.Options{APIKey: os.Getenv("PGQUIVER_API_KEY")})
	if err != nil {
		log.Fatal(err)
	}
	store, err := pb.NewVectorStoreServiceClient(connection).CreateVectorStore(ctx, &pb.CreateVectorStoreRequest{})
	if err != nil {
		log.Fatal(err)
	}
	target := pgquiver.Target{VectorStoreID: store.Id, IngestID: "example"}
	summary, err := pgquiver.Load(ctx, pb.NewIngestServiceClient(connection), target, func(yield func(*pb.EmbeddingInput, error) bool) {
		for _, text := range []string{"one", "two", "three"} {
			if !yield(&pb.EmbeddingInput{Content: text}, nil) {
				return
			}
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d rows written\n", summary.RowsWritten)
}
