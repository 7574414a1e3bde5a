"""AWS for tests, S3 and DynamoDB: `with MotoServer() as moto: ... moto.configs() ...`.

moto is a stand-in for AWS, written by others: it keeps to AWS's protocols, and checks what a client signs once
`create_user` was called.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

import boto3

from tests.servers import HOST, Server

REGION = "eu-central-1"

ANYBODY = {"AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "anything"}
"""What moto takes for as long as there is no user."""


class MotoServer(Server):
    """moto on a free port of 127.0.0.1. It keeps everything in memory: after `restart` it's empty."""

    START_SECONDS = 30.0

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(self.port)]

    @property
    def endpoint(self) -> str:
        """What AWS_ENDPOINT_URL is for this server."""
        return f"http://{HOST}:{self.port}"

    def configs(self, credentials: dict[str, str] = ANYBODY) -> dict[str, str]:
        """The configuration of a backend that is to use this server."""
        return {**credentials, "AWS_REGION": REGION, "AWS_ENDPOINT_URL": self.endpoint}

    def client(self, service: str, credentials: dict[str, str] = ANYBODY) -> Any:
        """boto3's client of a service: `client("s3").create_bucket(...)`."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
        )

    def create_bucket(self, name: str) -> None:
        self.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})

    def create_table(self, name: str) -> None:
        """A table of DynamoDB whose partition key is the string `key`."""
        self.client("dynamodb").create_table(
            TableName=name,
            AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def create_user(self, *actions: str) -> dict[str, str]:
        """A user who may do these actions (`s3:*`), as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.

        From then on, every request must be signed by a user who may do it.
        """
        self._check_signatures_after("inf")
        iam = self.client("iam")
        name = f"user-{len(iam.list_users()['Users'])}"
        iam.create_user(UserName=name)
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=name, PolicyName="actions", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        self._check_signatures_after("0")
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    def _check_signatures_after(self, requests: str) -> None:
        """By default, moto checks them after infinitely many."""
        url, headers = f"{self.endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        request = urllib.request.Request(url, data=requests.encode(), headers=headers, method="POST")
        urllib.request.urlopen(request, timeout=10).close()
