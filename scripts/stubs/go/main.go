// Calls a unary RPC and RPCs that stream in each direction, by code that protoc generated. Run by go.sh.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pgquiver "github.com/pgquiver/pgquiver/gen/go/pgquiver/v1"
)

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	stores := pgquiver.NewVectorStoreServiceClient(connection)
	ingests := pgquiver.NewIngestServiceClient(connection)

	name, dimensions := "go", int32(2)
	store, err := stores.CreateVectorStore(ctx, &pgquiver.CreateVectorStoreRequest{Name: &name, Dimensions: &dimensions})
	if err != nil {
		log.Fatal(err)
	}
	written, err := load(ctx, ingests, store.Id)
	if err != nil {
		log.Fatal(err)
	}
	read, err := count(ctx, ingests, store.Id)
	if err != nil {
		log.Fatal(err)
	}
	if written != 3 || read != 3 {
		log.Fatalf("%d rows written and %d read", written, read)
	}
	if err := refused(ctx, stores); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("Go: %d rows written and read\n", read)
}

// load sends three rows by a client stream.
func load(ctx context.Context, ingests pgquiver.IngestServiceClient, storeID string) (int64, error) {
	stream, err := ingests.Ingest(ctx)
	if err != nil {
		return 0, err
	}
	batch, total := &pgquiver.IngestBatch{Seq: 1}, int64(3)
	for index := range total {
		id := fmt.Sprintf("row-%d", index)
		batch.Rows = append(batch.Rows, &pgquiver.EmbeddingInput{Id: &id, Content: id, Embedding: []float32{1, float32(index)}})
	}
	for _, message := range []*pgquiver.IngestRequest{
		{Message: &pgquiver.IngestRequest_Open{Open: &pgquiver.IngestOpen{VectorStoreId: storeID}}},
		{Message: &pgquiver.IngestRequest_Batch{Batch: batch}},
		{Message: &pgquiver.IngestRequest_Finish{Finish: &pgquiver.IngestFinish{Rows: &total}}},
	} {
		if err := stream.Send(message); err != nil {
			return 0, err
		}
	}
	summary, err := stream.CloseAndRecv()
	if err != nil {
		return 0, err
	}
	if summary.State != pgquiver.IngestState_INGEST_STATE_COMPLETED {
		return 0, fmt.Errorf("the ingest is %s", summary.State)
	}
	return summary.RowsWritten, nil
}

// count reads the rows by a server stream.
func count(ctx context.Context, ingests pgquiver.IngestServiceClient, storeID string) (int, error) {
	stream, err := ingests.ExportEmbeddings(ctx, &pgquiver.ExportEmbeddingsRequest{VectorStoreId: storeID})
	if err != nil {
		return 0, err
	}
	for rows := 0; ; rows++ {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return rows, nil
		} else if err != nil {
			return 0, err
		}
	}
}

// refused asks for a store that is not there, and looks at the details of the error.
func refused(ctx context.Context, stores pgquiver.VectorStoreServiceClient) error {
	_, err := stores.GetVectorStore(ctx, &pgquiver.GetVectorStoreRequest{VectorStoreId: "none"})
	if status.Code(err) != codes.NotFound {
		return fmt.Errorf("expected NOT_FOUND, but got %v", err)
	}
	for _, detail := range status.Convert(err).Details() {
		if info, isInfo := detail.(*errdetails.ErrorInfo); isInfo && info.Reason == "NOT_FOUND" {
			return nil
		}
	}
	return fmt.Errorf("the error has no ErrorInfo: %v", err)
}
