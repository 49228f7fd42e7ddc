"""LangChain's own standard suite, unchanged, and what it leaves out."""

import pytest

pytest.importorskip("langchain_tests")

from langchain_tests.integration_tests import VectorStoreIntegrationTests  # noqa: E402

from pgquiver.langchain import PgquiverVectorStore  # noqa: E402


class TestPgquiver(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, client, store_id):
        return PgquiverVectorStore(client, store_id, self.get_embeddings())


def test_filters_scores_and_relevance_without_an_embedding_of_its_own(client, store_id):
    store = PgquiverVectorStore(client, store_id)
    store.add_texts(["Returns within 30 days", "Free shipping"], [{"lang": "en"}, {"lang": "de"}], ids=["a", "b"])
    [(document, score)] = store.similarity_search_with_score("returns", k=1)
    assert (document.id, document.metadata) == ("a", {"lang": "en"}) and 0.5 < score <= 1
    assert [each.id for each in store.similarity_search("returns", filter={"lang": "de"})] == ["b"]
    condition = {"type": "ne", "key": "lang", "value": "en"}
    assert [each.id for each in store.similarity_search("returns", filter=condition)] == ["b"]
    store.delete()
    assert store.similarity_search("returns") == []


def test_marginal_relevance_prefers_what_differs(client, store_id):
    embedding = VectorStoreIntegrationTests.get_embeddings()
    store = PgquiverVectorStore.from_texts(["same", "same", "other"], embedding, client=client, store_id=store_id)
    found = store.max_marginal_relevance_search("same", k=2, lambda_mult=0.3)
    assert sorted(document.page_content for document in found) == ["other", "same"]
