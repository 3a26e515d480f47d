terraform {
  required_version = ">= 1.3"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "prefix" {
  description = "Prefix of the names of the stacks. The commands in README.md and runbook.md name stacks of aup."
  type        = string
  default     = "aup"
}

variable "create_key" {
  description = "Whether to create a customer managed KMS key (key.yaml) for queues, tables and logs."
  type        = bool
  default     = false
}

variable "kms_key_arn" {
  description = "Existing customer managed KMS key for queues and tables; default: encryption with AWS owned keys."
  type        = string
  default     = ""
}

variable "tags" {
  description = "Tags of the stacks, which CloudFormation copies to their resources."
  type        = map(string)
  default     = {}
}

locals {
  # The default of service.yaml, where it is not used, for the role of workers that run elsewhere.
  cluster_name    = try(var.service.cluster_name, "aup-worker")
  created_key_arn = try(aws_cloudformation_stack.key[0].outputs["KeyArn"], "")
  kms_key_arn     = var.create_key ? local.created_key_arn : var.kms_key_arn
}
