from rest_framework import serializers


class ExchangeSerializer(serializers.Serializer[None]):
    token = serializers.CharField(max_length=200)
    verifier = serializers.CharField(max_length=200, required=False, default="")
