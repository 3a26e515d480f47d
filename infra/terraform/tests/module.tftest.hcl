# Which stacks are created with which parameters: `terraform test`, without AWS.

mock_provider "aws" {
  mock_resource "aws_cloudformation_stack" {
    defaults = {
      outputs = {
        ClusterName     = "cluster-of-the-service"
        DashboardUrl    = "dashboard"
        Environment     = "export AWS_REGION=eu-west-1"
        KeyArn          = "arn:aws:kms:eu-west-1:123456789012:key/1"
        Logs            = "aws logs tail"
        Publish         = "aup-worker policy publish"
        Push            = "aup-worker push"
        Replay          = "aup-worker replay --dry-run"
        ServiceName     = "name-of-the-service"
        WorkerPolicyArn = "arn:aws:iam::123456789012:policy/worker"
      }
    }
  }
}

run "without_a_service_there_are_data_roles_and_alarms" {
  assert {
    condition     = length(aws_cloudformation_stack.alarms) == 1
    error_message = "alarms are created by default"
  }

  assert {
    condition = alltrue([
      for stacks in [
        aws_cloudformation_stack.service, aws_cloudformation_stack.scaling, aws_cloudformation_stack.audit,
        aws_cloudformation_stack.endpoints, aws_cloudformation_stack.key,
      ] : length(stacks) == 0
    ])
    error_message = "no other stack is created by default"
  }

  assert {
    condition     = aws_cloudformation_stack.alarms[0].parameters["ServiceName"] == null
    error_message = "without a service, the template's default says so"
  }

  assert {
    condition     = aws_cloudformation_stack.data.parameters["TopicArns"] == "none"
    error_message = "an empty list is what the template calls none"
  }

  assert {
    condition     = output.logs == null && output.dashboard_url == "dashboard"
    error_message = "outputs of stacks that are not created are null"
  }
}

run "a_service_has_scaling_and_parameters_that_agree" {
  variables {
    prefix = "shop"
    tags   = { team = "legal" }
    service = {
      image        = "aup-worker@sha256:ab"
      vpc_id       = "vpc-1"
      subnet_ids   = ["subnet-1", "subnet-2"]
      cluster_name = "shop"
    }
  }

  assert {
    condition     = aws_cloudformation_stack.service[0].parameters["SubnetIds"] == "subnet-1,subnet-2"
    error_message = "a list is separated by commas"
  }

  assert {
    condition     = aws_cloudformation_stack.service[0].parameters["DataStack"] == "shop-data"
    error_message = "the service finds the stack of the data"
  }

  assert {
    condition     = aws_cloudformation_stack.roles.parameters["ClusterName"] == "shop"
    error_message = "the roles name the cluster of the service"
  }

  assert {
    condition     = aws_cloudformation_stack.scaling[0].parameters["BacklogPerTask"] == "320000"
    error_message = "scaling has the default of the template"
  }

  assert {
    condition     = aws_cloudformation_stack.alarms[0].parameters["ClusterName"] == "cluster-of-the-service"
    error_message = "the alarms watch the service"
  }

  assert {
    condition     = aws_cloudformation_stack.data.tags == tomap({ team = "legal" })
    error_message = "every stack has the tags"
  }
}

run "a_created_key_is_that_of_every_stack" {
  variables {
    create_key = true
    data       = { rule_arns = ["arn:aws:events:eu-west-1:123456789012:rule/acceptances"] }
    service    = { image = "aup-worker@sha256:ab", vpc_id = "vpc-1", subnet_ids = ["subnet-1"] }
  }

  assert {
    condition     = aws_cloudformation_stack.service[0].parameters["LogKmsKeyArn"] == output.stacks.key["KeyArn"]
    error_message = "the logs are encrypted with the key"
  }

  assert {
    condition = alltrue([
      for stack in [aws_cloudformation_stack.data, aws_cloudformation_stack.roles] :
      stack.parameters["KmsKeyArn"] == "arn:aws:kms:eu-west-1:123456789012:key/1"
    ])
    error_message = "data and roles name the key"
  }

  assert {
    condition     = aws_cloudformation_stack.key[0].parameters["ForEventBridge"] == "true"
    error_message = "the key allows the rules of data"
  }
}

run "alarms_and_scaling_can_be_left_out" {
  variables {
    alarms  = null
    scaling = null
    service = { image = "aup-worker@sha256:ab", vpc_id = "vpc-1", subnet_ids = ["subnet-1"] }
  }

  assert {
    condition     = length(aws_cloudformation_stack.alarms) + length(aws_cloudformation_stack.scaling) == 0
    error_message = "null creates no stack"
  }
}

run "a_value_that_the_template_refuses_is_refused_before_the_first_call" {
  command = plan

  variables {
    data    = { name = "UPPER", max_receive_count = 2, topic_arns = ["no arn"] }
    scaling = { cpu_percent = 96 }
    service = { image = "", vpc_id = "vpc-1", subnet_ids = ["subnet-1"], cpu_units = "300" }
  }

  expect_failures = [var.data, var.scaling, var.service]
}
